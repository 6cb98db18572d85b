//! `/efento/m`: samples of up to six channels.
//!
//! A channel that measures has its samples a period apart. A channel with two states has the seconds
//! since its beginning, plus one, at which the state changed; the sign is the state.

use super::{NotOne, hex, utc_text};
use prost::Message;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most channels of a message; sensors have six.
const CHANNELS_MAX: usize = 16;
/// Most samples of a message: each becomes a handful of values.
const SAMPLES_MAX: usize = 2048;
/// Period factors that stand for 0, as in messages of old sensors.
const OLD_BINARY_FACTOR: i64 = 14;
const OLD_FACTOR: i64 = 1;

#[derive(Clone, PartialEq, Message)]
struct Measurements {
    #[prost(bytes = "vec", tag = "1")]
    serial_number: Vec<u8>,
    #[prost(bool, tag = "2")]
    battery_ok: bool,
    #[prost(uint32, tag = "3")]
    period_base_s: u32,
    #[prost(message, repeated, tag = "4")]
    channels: Vec<Channel>,
    #[prost(uint32, tag = "5")]
    next_transmission_at_s: u32,
    #[prost(uint32, tag = "7")]
    signal: u32,
    #[prost(uint32, tag = "8")]
    period_factor: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Channel {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(int32, tag = "2")]
    start_s: i32,
    #[prost(sint32, tag = "4")]
    start_point: i32,
    #[prost(sint32, repeated, tag = "5")]
    sample_offsets: Vec<i32>,
}

/// How a channel's samples become values.
#[derive(Clone, Copy)]
enum Kind {
    /// A number of so many parts of its unit.
    Number(&'static str, f64),
    /// A number with a remark: quotient and remainder.
    Remarked(&'static str, i64),
    /// The upper part of a counter, with a remark.
    Major(&'static str),
    /// The lower part, with the channel of the upper one; how much that counts.
    Minor(&'static str, i64),
    /// Two states: names of the one below zero and of the other.
    State(&'static str, &'static str, &'static str),
}

impl Kind {
    /// What a type of measurement is; `None` of those that say nothing.
    const fn of(kind: i32) -> Option<Self> {
        Some(match kind {
            1 => Self::Number("temperature_", 10.0),
            2 => Self::Number("humidity_", 1.0),
            3 => Self::Number("pressure_", 10.0),
            4 => Self::Number("pressure_diff_", 1.0),
            5 => Self::State("ok_alarm_", "OK", "ALARM"),
            6 => Self::Remarked("iaq_", 3),
            7 => Self::State("flooding_", "OK", "WATER_DETECTED"),
            8 => Self::Number("pulse_cnt_", 1.0),
            9 => Self::Number("watt_hour_", 1.0),
            10 => Self::Number("pulse_counter_water_", 1.0),
            11 => Self::Number("soil_moisture_", 1.0),
            15 => Self::Number("ambient_light_", 10.0),
            22 => Self::Number("high_pressure_", 1.0),
            23 => Self::Number("distance_mm_", 1.0),
            24 => Self::Minor("water_cnt_acc_", 100),
            25 => Self::Major("water_cnt_acc_"),
            26 => Self::Remarked("co2_gas_", 3),
            27 => Self::Number("humidity_relative_", 10.0),
            28 => Self::Remarked("static_iaq_", 3),
            29 => Self::Remarked("co2_", 3),
            30 => Self::Remarked("breath_voc_", 3),
            32 => Self::Number("percentage_", 100.0),
            33 => Self::Number("voltage_", 10.0),
            34 => Self::Number("current_", 100.0),
            35 => Self::Minor("pulse_cnt_acc_", 1000),
            36 => Self::Major("pulse_cnt_acc_"),
            37 => Self::Minor("elec_meter_acc_", 1000),
            38 => Self::Major("elec_meter_acc_"),
            39 => Self::Minor("pulse_cnt_acc_wide_", 1_000_000),
            40 => Self::Major("pulse_cnt_acc_wide_"),
            41 => Self::Number("current_precise_", 1000.0),
            42 => Self::State("output_control_", "OFF", "ON"),
            _ => return None,
        })
    }

    const fn is_state(self) -> bool {
        matches!(self, Self::State(..))
    }
}

/// Parts of a unit of the upper and of the lower part of a counter that are the remark.
const MAJOR_REMARKS: i64 = 4;
const MINOR_CHANNELS: i64 = 6;

type Samples = BTreeMap<i64, Map<String, Value>>;

/// Reads a message. One without any sample that says something is none.
pub(super) fn read(bytes: &[u8]) -> Result<String, NotOne> {
    let message = Measurements::decode(bytes).map_err(|_| NotOne)?;
    let samples = message.channels.iter().map(|c| c.sample_offsets.len());
    if message.channels.len() > CHANNELS_MAX || samples.sum::<usize>() > SAMPLES_MAX {
        return Err(NotOne);
    }
    let mut at = Samples::new();
    let known = || {
        let channels = (1..).zip(&message.channels);
        channels.filter_map(|(number, channel)| Some((number, channel, Kind::of(channel.kind)?)))
    };
    // Lower parts of counters come after the upper ones, which they look for.
    let is_minor = |kind: Kind| matches!(kind, Kind::Minor(..));
    for wanted in [false, true] {
        for (number, channel, kind) in known().filter(|known| is_minor(known.2) == wanted) {
            add_channel(&message, number, channel, kind, &mut at);
        }
    }
    if at.is_empty() {
        return Err(NotOne);
    }
    let json = at
        .into_iter()
        .map(|(ts_s, values)| json!({"ts": ts_s * 1000, "values": values}))
        .collect();
    Ok(Value::Array(json).to_string())
}

fn add_channel(
    message: &Measurements,
    number: i64,
    channel: &Channel,
    kind: Kind,
    at: &mut Samples,
) {
    let factor = match message.period_factor {
        0 if kind.is_state() => OLD_BINARY_FACTOR,
        0 => OLD_FACTOR,
        factor => i64::from(factor),
    };
    // Both have 32 bits.
    let period_s = i64::from(message.period_base_s).saturating_mul(factor);
    let start_s = i64::from(channel.start_s);
    let mut before = None;
    for (index, &offset) in (0_i64..).zip(&channel.sample_offsets) {
        if is_error(offset) {
            continue;
        }
        let offset = i64::from(offset);
        let ts_s = if kind.is_state() {
            let is_below = offset < 0;
            if before.replace(is_below) == Some(is_below) {
                continue;
            }
            start_s + offset.abs() - 1
        } else {
            start_s.saturating_add(index.saturating_mul(period_s))
        };
        // Milliseconds of 64 bits.
        if ts_s.checked_mul(1000).is_none() {
            continue;
        }
        let values = at
            .entry(ts_s)
            .or_insert_with(|| common(message, period_s, ts_s));
        let value = i64::from(channel.start_point) + offset;
        add_value(kind, number, value, offset < 0, values);
    }
}

/// Codes of what is wrong with a sensor, in the place of a sample.
const fn is_error(offset: i32) -> bool {
    matches!(offset, 8_355_840..=8_388_607)
}

fn common(message: &Measurements, period_s: i64, ts_s: i64) -> Map<String, Value> {
    let next = utc_text(i64::from(message.next_transmission_at_s));
    let battery = if message.battery_ok { "ok" } else { "low" };
    let values = [
        ("serial", json!(hex(&message.serial_number))),
        ("battery", json!(battery)),
        ("measured_at", json!(utc_text(ts_s))),
        ("next_transmission_at", json!(next)),
        ("signal", json!(message.signal)),
        ("measurement_interval", json!(period_s)),
    ];
    values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn add_value(
    kind: Kind,
    channel: i64,
    value: i64,
    is_below: bool,
    values: &mut Map<String, Value>,
) {
    let mut add = |key: String, value: Value| {
        values.insert(key, value);
    };
    match kind {
        #[allow(
            clippy::cast_precision_loss,
            reason = "the sum of two numbers of 32 bits"
        )]
        Kind::Number(prefix, parts) => {
            add(format!("{prefix}{channel}"), json!(value as f64 / parts));
        }
        Kind::State(prefix, below, other) => {
            let state = if is_below { below } else { other };
            add(format!("{prefix}{channel}"), json!(state));
        }
        Kind::Remarked(prefix, parts) => {
            add(format!("{prefix}{channel}"), json!(value / parts));
            add(format!("{prefix}metadata_{channel}"), json!(value % parts));
        }
        Kind::Major(prefix) => {
            add(format!("{prefix}{channel}"), json!(value / MAJOR_REMARKS));
            let remark = json!(value % MAJOR_REMARKS);
            add(format!("{prefix}metadata_{channel}"), remark);
        }
        Kind::Minor(prefix, whole) => {
            let (lower, upper_channel) = (value / MINOR_CHANNELS, value % MINOR_CHANNELS + 1);
            let upper = values.remove(&format!("{prefix}{upper_channel}"));
            let upper = upper.as_ref().and_then(Value::as_i64);
            // Without the upper part there is no total, but what was counted is kept.
            let (name, value) = match upper {
                Some(upper) => ("total", upper.saturating_mul(whole).saturating_add(lower)),
                None => ("minor", lower),
            };
            values.insert(format!("{prefix}{name}_{channel}"), json!(value));
        }
    }
}
