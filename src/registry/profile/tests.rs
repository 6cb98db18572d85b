use super::*;

const METER: &str = r#"syntax = "proto3";
package meter;
enum State { UNKNOWN = 0; OPEN = 1; }
message Inner { int32 a = 1; string b = 2; }
message Reading {
  int64 count = 1;
  double level = 2;
  State state = 3;
  optional int32 rare = 4;
  repeated Inner parts = 5;
  string snake_case = 6;
}"#;

fn schema_error(text: &str) -> SchemaError {
    Schema::compile(text).unwrap_err()
}

#[test]
fn a_message_becomes_json_with_its_default_values() {
    let schema = Schema::compile(METER).unwrap();
    assert_eq!(
        schema.to_json(b"").unwrap(),
        r#"{"count":"0","level":0.0,"state":"UNKNOWN","parts":[],"snake_case":""}"#
    );
    // count 150, level 25.0, state OPEN, rare 0, one empty part.
    let message = b"\x08\x96\x01\x11\0\0\0\0\0\0\x39\x40\x18\x01\x20\0\x2a\0";
    let json = r#"{"count":"150","level":25.0,"state":"OPEN","rare":0,"parts":[{"a":0,"b":""}],"snake_case":""}"#;
    assert_eq!(schema.to_json(message).unwrap(), json);
    let back = schema.from_json(r#"{"count":150,"level":25,"state":"OPEN"}"#);
    assert_eq!(back.unwrap(), message[..14]);
}

#[test]
fn what_is_no_message_is_refused() {
    let schema = Schema::compile(METER).unwrap();
    for message in [
        &b"\x08"[..],
        b"\xff",
        b"\x0a\x05a",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(
            schema.to_json(message),
            Err(SchemaError::Mismatch),
            "{message:?}"
        );
    }
    for json in [
        "",
        "5",
        "{",
        "{\"nope\":1}",
        "{\"count\":\"x\"}",
        "{} {}",
        "[]",
    ] {
        assert_eq!(schema.from_json(json), Err(SchemaError::Mismatch), "{json}");
    }
}

#[test]
fn a_small_message_does_not_become_a_large_text() {
    let fields: String = (1..1000)
        .map(|n| format!("string a_long_name_of_a_field_{n} = {n};"))
        .collect();
    let text = format!(
        "syntax = \"proto3\"; message Inner {{ {fields} }} message Outer {{ repeated Inner all = 1; }}"
    );
    let schema = Schema::compile(&text).unwrap();
    assert!(schema.to_json(&[0x0a, 0].repeat(3)).is_ok());
    assert_eq!(
        schema.to_json(&[0x0a, 0].repeat(500)),
        Err(SchemaError::Mismatch)
    );
    // A message within itself, two hundred times.
    let own = "syntax = \"proto3\"; message M { M m = 1; }";
    let mut nested = Vec::new();
    for _ in 0..60 {
        let length = u8::try_from(nested.len()).unwrap();
        nested.splice(0..0, [0x0a, length]);
    }
    let schema = Schema::compile(own).unwrap();
    assert!(schema.to_json(&nested).is_ok());
    let mut deep = vec![];
    for _ in 0..200 {
        let mut length = Vec::new();
        prost_reflect::prost::encode_length_delimiter(deep.len(), &mut length).unwrap();
        deep.splice(0..0, length);
        deep.insert(0, 0x0a);
    }
    assert_eq!(schema.to_json(&deep), Err(SchemaError::Mismatch));
}

#[test]
fn texts_that_are_no_schema_say_why() {
    assert_eq!(schema_error(""), SchemaError::NotProto3);
    assert_eq!(schema_error("message M {}"), SchemaError::NotProto3);
    assert_eq!(
        schema_error("syntax = \"proto2\"; message M {}"),
        SchemaError::NotProto3
    );
    assert_eq!(
        schema_error("syntax = \"proto3\"; enum E { A = 0; }"),
        SchemaError::NoMessage
    );
    let imports = "syntax = \"proto3\"; import \"a.proto\"; message M {}";
    assert_eq!(schema_error(imports), SchemaError::Import("a.proto".into()));
    assert_eq!(schema_error(&" ".repeat(65 << 10)), SchemaError::TooLong);
    for text in [
        "syntax = \"proto3\"; message M { Missing m = 1; }",
        "syntax = \"proto3\"; message M { int32 a = 1; int32 b = 1; }",
        "syntax = \"proto3\"; message M { int32 a = 0; }",
        "syntax = \"proto3\"; message M {",
        "\u{0}",
    ] {
        assert!(
            matches!(schema_error(text), SchemaError::Syntax(_)),
            "{text}"
        );
    }
    // Nested beyond reason: refused, and no stack is exhausted.
    let deep = format!("syntax = \"proto3\"; {}", "message M { ".repeat(5000));
    assert!(matches!(schema_error(&deep), SchemaError::Syntax(_)));
    let deep = format!(
        "syntax = \"proto3\"; message M {{ option (x) = {}",
        "{ a: ".repeat(10_000)
    );
    assert!(matches!(schema_error(&deep), SchemaError::Syntax(_)));
}

#[test]
fn limits_are_read_and_refused() {
    for text in ["", "1:60", "10:1,300:60", "1000000000:31622400"] {
        assert_eq!(RateLimit::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(
        RateLimit::parse(" 1 : 60 , 2:3 ").unwrap().to_string(),
        "1:60,2:3"
    );
    for text in [
        "1",
        "1:",
        ":1",
        "0:1",
        "1:0",
        "-1:1",
        "1:1,",
        "1:1:1",
        "1.5:1",
        "a:b",
        "1:99999999",
        "1000000001:1",
        "99999999999999999999:1",
        "1:1;2:2",
        "1:1,1:1,1:1,1:1,1:1,1:1,1:1,1:1,1:1",
    ] {
        assert!(RateLimit::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_profile_says_what_is_wrong_with_it() {
    let compile = |json: &str| {
        let settings: ProfileSettings = serde_json::from_str(json).map_err(|e| e.to_string())?;
        Profile::compile("p", settings)
            .map(drop)
            .map_err(|e| e.to_string())
    };
    assert_eq!(compile("{}"), Ok(()));
    for (json, part) in [
        (r#"{"nope":1}"#, "unknown field"),
        (r#"{"payloadType":"XML"}"#, "unknown variant"),
        (r#"{"payloadType":"PROTOBUF"}"#, "protoSchemas.telemetry"),
        (r#"{"rateLimits":{"messages":"x"}}"#, "rateLimits.messages"),
        (
            r#"{"powerSaving":{"mode":"PSM","psmActivityTimer":99999999999}}"#,
            "powerSaving",
        ),
        (r#"{"powerSaving":{"mode":"SLEEP"}}"#, "unknown variant"),
        (
            r#"{"provisioning":{"strategy":"ALLOW_CREATE_NEW_DEVICES"}}"#,
            "needs key and secret",
        ),
        (r#"{"provisioning":{"key":""}}"#, "1 to 255 bytes"),
        (
            r#"{"payloadType":"PROTOBUF","protoSchemas":{"telemetry":"syntax = \"proto3\";","attributes":""}}"#,
            "protoSchemas.telemetry: the schema has no message",
        ),
    ] {
        let error = compile(json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
    }
}
