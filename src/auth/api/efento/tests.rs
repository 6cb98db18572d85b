//! Messages of sensors, byte for byte.

use super::*;
use serde_json::{Value, json};

const START_S: u32 = 1_700_000_000;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn zigzag(value: i32) -> u64 {
    u64::from((value.wrapping_shl(1) ^ (value >> 31)).cast_unsigned())
}

fn bytes_field(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(tag) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn number_field(tag: u8, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(tag) << 3, out);
    varint(value, out);
}

fn channel(kind: u64, start_point: i32, samples: &[i32]) -> Vec<u8> {
    let mut out = Vec::new();
    number_field(1, kind, &mut out);
    number_field(2, u64::from(START_S), &mut out);
    number_field(4, zigzag(start_point), &mut out);
    let mut packed = Vec::new();
    for sample in samples {
        varint(zigzag(*sample), &mut packed);
    }
    bytes_field(5, &packed, &mut out);
    out
}

/// A message of a sensor that measures every three minutes times `factor`.
fn measurements(factor: u64, channels: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes_field(1, &[0, 0, 4, 0xd2], &mut out);
    number_field(2, 1, &mut out);
    number_field(3, 180, &mut out);
    for channel in channels {
        bytes_field(4, channel, &mut out);
    }
    number_field(5, 1000, &mut out);
    number_field(8, factor, &mut out);
    bytes_field(16, b"test_token", &mut out);
    out
}

fn readings(message: &[u8]) -> Vec<Value> {
    let token = Upload::Measurements.token(message);
    assert_eq!(token.as_deref(), Ok("test_token"));
    let json = measurements::read(message).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn samples_have_their_times() {
    let message = measurements(5, &[channel(1, 0, &[223, 224]), channel(2, 10, &[10, 20])]);
    let start = u64::from(START_S) * 1000;
    let values = |measured: &str, temperature: f64, humidity: f64| {
        json!({
            "serial": "000004D2",
            "battery": "ok",
            "measured_at": measured,
            "next_transmission_at": "1970-01-01 00:16:40 UTC",
            "signal": 0,
            "measurement_interval": 900,
            "temperature_1": temperature,
            "humidity_2": humidity,
        })
    };
    let expected = [
        json!({"ts": start, "values": values("2023-11-14 22:13:20 UTC", 22.3, 20.0)}),
        json!({"ts": start + 900_000, "values": values("2023-11-14 22:28:20 UTC", 22.4, 30.0)}),
    ];
    assert_eq!(readings(&message), expected);
}

#[test]
fn each_kind_of_sensor_has_its_name_and_unit() {
    for (kind, sample, name, value) in [
        (1, 223, "temperature_1", json!(22.3)),
        (2, 20, "humidity_1", json!(20.0)),
        (3, 1013, "pressure_1", json!(101.3)),
        (4, -500, "pressure_diff_1", json!(-500.0)),
        (5, 1, "ok_alarm_1", json!("ALARM")),
        (5, -1, "ok_alarm_1", json!("OK")),
        (6, 151, "iaq_1", json!(50)),
        (6, 151, "iaq_metadata_1", json!(1)),
        (7, 1, "flooding_1", json!("WATER_DETECTED")),
        (8, 300, "pulse_cnt_1", json!(300.0)),
        (9, 1200, "watt_hour_1", json!(1200.0)),
        (10, 1050, "pulse_counter_water_1", json!(1050.0)),
        (11, 35, "soil_moisture_1", json!(35.0)),
        (15, 500, "ambient_light_1", json!(50.0)),
        (22, 200_000, "high_pressure_1", json!(200_000.0)),
        (23, 1500, "distance_mm_1", json!(1500.0)),
        (25, 2501, "water_cnt_acc_1", json!(625)),
        (25, 2501, "water_cnt_acc_metadata_1", json!(1)),
        (26, 450, "co2_gas_1", json!(150)),
        (27, 525, "humidity_relative_1", json!(52.5)),
        (28, 110, "static_iaq_1", json!(36)),
        (29, 450, "co2_1", json!(150)),
        (30, 220, "breath_voc_1", json!(73)),
        (32, 80, "percentage_1", json!(0.8)),
        (33, 2400, "voltage_1", json!(240.0)),
        (34, 550, "current_1", json!(5.5)),
        (41, 275, "current_precise_1", json!(0.275)),
        (42, -1, "output_control_1", json!("OFF")),
    ] {
        let found = readings(&measurements(1, &[channel(kind, 0, &[sample])]));
        assert_eq!(found[0]["values"][name], value, "{kind} {name}");
    }
}

#[test]
fn counters_of_two_channels_become_one() {
    // The lower part says 25 and names channel 2 (4 * 6 remainders: 25 * 6 + 1).
    for (minor, major, name, total) in [
        (24, 25, "water_cnt_acc_total_1", 62_525),
        (35, 36, "pulse_cnt_acc_total_1", 625_025),
        (37, 38, "elec_meter_acc_total_1", 625_025),
        (39, 40, "pulse_cnt_acc_wide_total_1", 625_000_025),
    ] {
        let channels = [channel(minor, 0, &[151]), channel(major, 0, &[2500])];
        let found = readings(&measurements(1, &channels));
        assert_eq!(found[0]["values"][name], json!(total), "{name}");
    }
    let alone = readings(&measurements(1, &[channel(24, 0, &[151])]));
    assert_eq!(alone[0]["values"]["water_cnt_acc_minor_1"], json!(25));
}

#[test]
fn states_are_told_when_they_change() {
    // An old sensor, without a period factor.
    let message = measurements(0, &[channel(5, 0, &[1, -10, -20, 31])]);
    let found = readings(&message);
    let told: Vec<_> = found
        .iter()
        .map(|at| {
            let after = at["ts"].as_u64().unwrap() / 1000 - u64::from(START_S);
            (after, at["values"]["ok_alarm_1"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [(0, "ALARM"), (9, "OK"), (30, "ALARM")]);
    assert_eq!(found[0]["values"]["measurement_interval"], 180 * 14);
}

#[test]
fn broken_sensors_say_nothing() {
    let message = measurements(1, &[channel(1, 0, &[8_355_840, 100, 8_388_607])]);
    let found = readings(&message);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["ts"], (u64::from(START_S) + 180) * 1000);
    for nothing in [
        measurements(1, &[]),
        measurements(1, &[channel(1, 0, &[])]),
        measurements(1, &[channel(1, 0, &[8_388_605])]),
        // No sensor, and one that we do not know.
        measurements(1, &[channel(0, 0, &[1]), channel(99, 0, &[1])]),
        Vec::new(),
    ] {
        assert_eq!(measurements::read(&nothing), Err(NotOne));
    }
}

#[test]
fn what_is_no_message_is_refused_and_none_is_too_much() {
    let message = measurements(1, &[channel(1, 0, &[1, 2, 3]), channel(7, 0, &[1, -2])]);
    for end in 0..message.len() {
        // Whatever it says, it does not panic; torn within a field it is none.
        let _ = measurements::read(&message[..end]);
        let _ = info::read(&message[..end]);
        let _ = config::read(&message[..end]);
    }
    assert_eq!(
        measurements::read(&message[..message.len() - 1]),
        Err(NotOne)
    );
    let many = measurements(1, &[channel(1, 0, &[1; 2049])]);
    assert_eq!(measurements::read(&many), Err(NotOne));
    let many = measurements(1, &vec![channel(1, 0, &[1]); 17]);
    assert_eq!(measurements::read(&many), Err(NotOne));
    // Times and values at their ends.
    let far = measurements(
        u64::from(u32::MAX),
        &[channel(1, i32::MAX, &[i32::MIN, i32::MAX])],
    );
    assert!(measurements::read(&far).is_ok());
}

#[test]
fn device_info_names_its_numbers() {
    let mut message = Vec::new();
    number_field(3, 1546, &mut message);
    let mut modem = Vec::new();
    number_field(1, 1, &mut modem);
    number_field(2, zigzag(-1), &mut modem);
    number_field(2, zigzag(3600), &mut modem);
    bytes_field(14, &modem, &mut message);
    bytes_field(16, b"test_token", &mut message);
    for statistic in [0, u64::from(u32::MAX), 1_000_000] {
        number_field(17, statistic, &mut message);
    }
    let token = Upload::DeviceInfo.token(&message);
    assert_eq!(token.as_deref(), Ok("test_token"));
    let json = info::read(&message).unwrap();
    let values: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(values["sw_version"], 1546);
    assert_eq!(values["modem_types"], "MODEM_TYPE_BC66");
    assert_eq!(values["sc_EARNFCN_offset"], -1);
    assert_eq!(values["sc_EARFCN"], 3600);
    let ended = &values["timestamp_of_the_end_of_collecting_statistics"];
    assert_eq!(*ended, "Undefined");
    assert_eq!(values["capacity_of_memory_in_bytes"], 1_000_000);
    assert_eq!(values.get("used_space_in_bytes"), None);
    assert_eq!(
        values["battery_reset_timestamp"],
        "01 Jan 1970 00:00:00 +0000"
    );
    assert_eq!(values["runtime_errors"], 0);
    assert_eq!(date_text(1_764_080_193), "25 Nov 2025 14:16:33 +0000");
    assert!(info::read(b"\x1a\xff").is_err());
}

#[test]
fn a_configuration_is_all_its_fields() {
    let mut message = Vec::new();
    number_field(2, 180, &mut message);
    bytes_field(24, b"test_token", &mut message);
    number_field(27, 1, &mut message);
    let token = Upload::Configuration.token(&message);
    assert_eq!(token.as_deref(), Ok("test_token"));
    let json = config::read(&message).unwrap();
    let values: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(values["measurement_period_base"], 180);
    assert_eq!(values["measurement_period_factor"], 0);
    assert_eq!(
        values["channel_types"],
        json!(["MEASUREMENT_TYPE_TEMPERATURE"])
    );
    assert_eq!(values["rules"], json!([]));
    assert_eq!(values["apn"], "");
    assert!(config::read(b"\xc2\x01\x09x").is_err());
}

#[test]
fn the_time_is_four_bytes() {
    let answer = current_time(1_700_000_000_999);
    assert_eq!(answer.payload, START_S.to_be_bytes());
    assert_eq!((answer.code, answer.content_format), (code::CONTENT, None));
}

/// The encoder of these tests is not that of the reader.
#[test]
fn the_messages_of_these_tests_are_well_formed() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Samples {
        #[prost(sint32, repeated, tag = "5")]
        samples: Vec<i32>,
    }
    let samples = Samples::decode(&*channel(1, 7, &[1, -2, 300])).unwrap();
    assert_eq!(samples.samples, [1, -2, 300]);
}
