use super::*;

fn java(value: f64) -> String {
    let mut out = String::new();
    write_java_double(value, &mut out);
    out
}

#[test]
fn doubles_print_as_in_java() {
    for (value, text) in [
        (42.0, "42.0"),
        (1.0e10, "1.0E10"),
        (1.0e7, "1.0E7"),
        (9_999_999.0, "9999999.0"),
        (12_345_678.9, "1.23456789E7"),
        (0.001, "0.001"),
        (0.000_999, "9.99E-4"),
        (0.1, "0.1"),
        (-0.5, "-0.5"),
        (-1.5e-7, "-1.5E-7"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (f64::MAX, "1.7976931348623157E308"),
        (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
        // The smallest double has one significant digit; Java prints at least two (JDK-4511638).
        (5e-324, "4.9E-324"),
        (2.0e23, "2.0E23"),
        (123_456.789, "123456.789"),
        (100.0, "100.0"),
        (f64::NAN, "null"),
    ] {
        assert_eq!(java(value), text, "{value:e}");
    }
}

#[test]
fn values_survive_their_bytes() {
    let values = [
        ValueRef::Bool(true),
        ValueRef::Bool(false),
        ValueRef::Long(i64::MIN),
        ValueRef::Double(-0.25),
        ValueRef::String("ä\u{0}\""),
        ValueRef::Json("{\"a\":[1]}"),
    ];
    let mut bytes = Vec::new();
    for value in values {
        value.encode(&mut bytes);
    }
    let mut rest = &bytes[..];
    for value in values {
        assert_eq!(ValueRef::decode(&mut rest), Some(value));
    }
    assert!(rest.is_empty());
    for cut in 0..bytes.len() {
        let mut short = &bytes[..cut];
        while ValueRef::decode(&mut short).is_some() {}
    }
    for wrong in [&[0, 0][..], &[1, 2], &[6], &[4, 1, 0, 0, 0, 0xff]] {
        assert_eq!(ValueRef::decode(&mut &*wrong), None, "{wrong:?}");
    }
}

#[test]
fn strings_are_escaped_as_by_gson() {
    let mut out = String::new();
    write_json_string(
        "a\"b\\c\n\r\t\u{8}\u{c}\u{1}\u{7f}é/<\u{2028}\u{2029}😀",
        &mut out,
    );
    assert_eq!(
        out,
        "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0001\u{7f}é/<\\u2028\\u2029😀\""
    );
}
