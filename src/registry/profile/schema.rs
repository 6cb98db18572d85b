//! Schemas that the operator supplies as proto3 text (TB section 7.8).
//!
//! A message is read by its schema and written as JSON, with the names of the schema and with
//! default values, which is what ThingsBoard makes of it; what follows is that of a JSON upload.
//!
//! Bounds: the text's length; nesting, by the parser (31) and the decoder (100); the JSON's length,
//! as two bytes of an empty message on the wire can stand for all default values of its fields.

use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions,
};
use std::io;

/// Longest text of a schema, bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Longest JSON that a message may become, bytes.
const JSON_BYTES_MAX: usize = 1 << 20;

/// ThingsBoard's schema of a call to a device.
pub(super) const RPC_REQUEST: &str = r#"syntax = "proto3";
message RpcRequestMsg {
  optional string method = 1;
  optional int32 requestId = 2;
  optional string params = 3;
}"#;

/// ThingsBoard's schema of a device's reply.
pub(super) const RPC_RESPONSE: &str = r#"syntax = "proto3";
message RpcResponseMsg {
  optional string payload = 1;
}"#;

/// A message type.
#[derive(Clone, Debug)]
pub struct Schema(MessageDescriptor);

/// Why a text is no schema, or a message not of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The text is too long.
    #[error("the schema is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// The text cannot be read.
    #[error("the schema cannot be read: {0}")]
    Syntax(String),
    /// It is not proto3.
    #[error("the schema must begin with: syntax = \"proto3\";")]
    NotProto3,
    /// It needs others.
    #[error("the schema imports {0:?}; write all messages into one text")]
    Import(String),
    /// Nothing in it.
    #[error("the schema has no message")]
    NoMessage,
    /// The bytes, or the JSON, are no message of this schema.
    #[error("not a message of the schema")]
    Mismatch,
}

impl Schema {
    /// Reads a text; its last message is the type.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the text.
    pub fn compile(text: &str) -> Result<Self, SchemaError> {
        const FILE: &str = "schema.proto";
        if text.len() > TEXT_BYTES_MAX {
            return Err(SchemaError::TooLong);
        }
        let syntax = |error: &dyn std::fmt::Display| SchemaError::Syntax(error.to_string());
        let mut file = protox_parse::parse(FILE, text).map_err(|error| syntax(&error))?;
        if file.syntax.as_deref() != Some("proto3") {
            return Err(SchemaError::NotProto3);
        }
        if let Some(import) = file.dependency.first() {
            return Err(SchemaError::Import(import.clone()));
        }
        // Where things stand in the text is of no use afterwards.
        file.source_code_info = None;
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_proto(file)
            .map_err(|error| syntax(&error))?;
        let last = pool
            .get_file_by_name(FILE)
            .and_then(|file| file.messages().last());
        last.map(Self).ok_or(SchemaError::NoMessage)
    }

    /// Whether the message has a field of this name.
    pub fn has_field(&self, name: &str) -> bool {
        self.0.get_field_by_name(name).is_some()
    }

    /// Whether the message has a field of this name that holds text.
    pub fn has_text_field(&self, name: &str) -> bool {
        let field = self.0.get_field_by_name(name);
        field.is_some_and(|field| field.kind() == Kind::String && !field.is_list())
    }

    /// A message as JSON text: fields by the names of the schema, default values included, 64-bit
    /// integers as strings.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Mismatch`], also when the JSON would be longer than a mebibyte.
    pub fn to_json(&self, message: &[u8]) -> Result<String, SchemaError> {
        let mismatch = |_: &dyn std::fmt::Debug| SchemaError::Mismatch;
        let message = DynamicMessage::decode(self.0.clone(), message).map_err(|e| mismatch(&e))?;
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .skip_default_fields(false)
            .stringify_64_bit_integers(true);
        let mut json = serde_json::Serializer::new(Bounded(Vec::new()));
        message
            .serialize_with_options(&mut json, &options)
            .map_err(|e| mismatch(&e))?;
        String::from_utf8(json.into_inner().0).map_err(|e| mismatch(&e))
    }

    /// The bytes of the message that a JSON text stands for.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Mismatch`]: it has names that the schema lacks, or values of other types.
    pub fn from_json(&self, json: &str) -> Result<Vec<u8>, SchemaError> {
        use prost_reflect::prost::Message as _;
        let mut reader = serde_json::Deserializer::from_str(json);
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let message =
            DynamicMessage::deserialize_with_options(self.0.clone(), &mut reader, &options);
        let message = message.map_err(|_| SchemaError::Mismatch)?;
        reader.end().map_err(|_| SchemaError::Mismatch)?;
        Ok(message.encode_to_vec())
    }
}

/// Takes up to [`JSON_BYTES_MAX`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > JSON_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
