//! `/efento/i`: how the sensor itself is.
//!
//! Statistics are lists of numbers; each has its name by its place. A list that is shorter than
//! another version's says less, and is not refused.

use super::{NotOne, date_text};
use prost::Message;
use serde_json::{Map, Value, json};

#[derive(Clone, PartialEq, Message)]
struct DeviceInfo {
    #[prost(uint32, tag = "3")]
    software_version: u32,
    #[prost(message, optional, tag = "13")]
    runtime: Option<Runtime>,
    #[prost(message, optional, tag = "14")]
    modem: Option<Modem>,
    #[prost(uint32, repeated, tag = "17")]
    memory: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Runtime {
    #[prost(uint32, tag = "1")]
    up_time: u32,
    #[prost(uint32, repeated, tag = "2")]
    message_counters: Vec<u32>,
    #[prost(sint32, tag = "3")]
    mcu_temperature: i32,
    #[prost(uint32, tag = "4")]
    min_battery_voltage: u32,
    #[prost(sint32, tag = "5")]
    min_battery_mcu_temperature: i32,
    #[prost(uint32, tag = "6")]
    battery_reset_timestamp: u32,
    #[prost(sint32, tag = "7")]
    max_mcu_temperature: i32,
    #[prost(sint32, tag = "8")]
    min_mcu_temperature: i32,
    #[prost(uint32, repeated, tag = "9")]
    runtime_errors: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Modem {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(sint32, repeated, tag = "2")]
    parameters: Vec<i32>,
}

/// Of the memory: the name, and whether the number is a point in time.
const MEMORY: &[(&str, bool)] = &[
    ("nv_storage_status", false),
    ("timestamp_of_the_end_of_collecting_statistics", true),
    ("capacity_of_memory_in_bytes", false),
    ("used_space_in_bytes", false),
    ("size_of_invalid_packets_in_bytes", false),
    ("size_of_corrupted_packets_in_bytes", false),
    ("number_of_valid_packets", false),
    ("number_of_invalid_packets", false),
    ("number_of_corrupted_packets", false),
    ("number_of_all_samples_for_channel_1", false),
    ("number_of_all_samples_for_channel_2", false),
    ("number_of_all_samples_for_channel_3", false),
    ("number_of_all_samples_for_channel_4", false),
    ("number_of_all_samples_for_channel_5", false),
    ("number_of_all_samples_for_channel_6", false),
    ("timestamp_of_the_first_binary_measurement", true),
    ("timestamp_of_the_last_binary_measurement", true),
    ("timestamp_of_the_first_binary_measurement_sent", true),
    ("timestamp_of_the_first_continuous_measurement", true),
    ("timestamp_of_the_last_continuous_measurement", true),
    ("timestamp_of_the_last_continuous_measurement_sent", true),
    ("nvm_write_counter", false),
];

/// Of the modem; the first two have ThingsBoard's order, so that its dashboards show the same.
const MODEM: &[&str] = &[
    "sc_EARNFCN_offset",
    "sc_EARFCN",
    "sc_PCI",
    "sc_Cell_id",
    "sc_RSRP",
    "sc_RSRQ",
    "sc_RSSI",
    "sc_SINR",
    "sc_Band",
    "sc_TAC",
    "sc_ECL",
    "sc_TX_PWR",
    "op_mode",
    "nc_EARFCN",
    "nc_EARNFCN_offset",
    "nc_PCI",
    "nc_RSRP",
    "RLC_UL_BLER",
    "RLC_DL_BLER",
    "MAC_UL_BLER",
    "MAC_DL_BLER",
    "MAC_UL_TOTAL_BYTES",
    "MAC_DL_TOTAL_BYTES",
    "MAC_UL_total_HARQ_Tx",
    "MAC_DL_total_HARQ_Tx",
    "MAC_UL_HARQ_re_Tx",
    "MAC_DL_HARQ_re_Tx",
    "RLC_UL_tput",
    "RLC_DL_tput",
    "MAC_UL_tput",
    "MAC_DL_tput",
    "sleep_duration",
    "rx_time",
    "tx_time",
];

const COUNTERS: &[&str] = &[
    "counter_of_confirmable_messages_attempts",
    "counter_of_non_confirmable_messages_attempts",
    "counter_of_succeeded_messages",
];

/// Reads a message.
pub(super) fn read(bytes: &[u8]) -> Result<String, NotOne> {
    let message = DeviceInfo::decode(bytes).map_err(|_| NotOne)?;
    let mut values = Map::new();
    let mut add = |key: &str, value: Value| {
        values.insert(key.to_owned(), value);
    };
    add("sw_version", json!(message.software_version));
    for (&(key, is_time), &number) in MEMORY.iter().zip(&message.memory) {
        let value = match is_time {
            true => json!(date_text(number)),
            false => json!(number),
        };
        add(key, value);
    }
    let modem = message.modem.unwrap_or_default();
    let kind = match modem.kind {
        0 => "MODEM_TYPE_UNSPECIFIED",
        1 => "MODEM_TYPE_BC66",
        2 => "MODEM_TYPE_BC66NA",
        _ => "UNRECOGNIZED",
    };
    add("modem_types", json!(kind));
    for (key, number) in MODEM.iter().zip(&modem.parameters) {
        add(key, json!(number));
    }
    let runtime = message.runtime.unwrap_or_default();
    for (key, number) in COUNTERS.iter().zip(&runtime.message_counters) {
        add(key, json!(number));
    }
    let reset = date_text(runtime.battery_reset_timestamp);
    add("battery_reset_timestamp", json!(reset));
    add("max_mcu_temp", json!(runtime.max_mcu_temperature));
    add("mcu_temp", json!(runtime.mcu_temperature));
    let battery_temperature = runtime.min_battery_mcu_temperature;
    add("min_battery_mcu_temp", json!(battery_temperature));
    add("min_battery_voltage", json!(runtime.min_battery_voltage));
    add("min_mcu_temp", json!(runtime.min_mcu_temperature));
    add("runtime_errors", json!(runtime.runtime_errors.len()));
    add("up_time", json!(runtime.up_time));
    Ok(Value::Object(values).to_string())
}
