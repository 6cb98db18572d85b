use super::number::{Number, PLAIN_DIGITS_MAX, classify, is_castable};
use super::*;
use proptest::prelude::*;

fn text(source: &str) -> String {
    let mut out = String::new();
    match parse(source) {
        Ok(json) => json.write(&mut out),
        Err(error) => out = format!("error: {error}"),
    }
    out
}

#[test]
fn lenient_documents() {
    for (source, expected) in [
        // RFC 8259.
        (
            r#"{"a":1,"b":[true,false,null],"c":{}}"#,
            r#"{"a":1,"b":[true,false,null],"c":{}}"#,
        ),
        (" [ ] ", "[]"),
        ("5", "5"),
        (r#""x""#, r#""x""#),
        // Without quotes, in single quotes.
        ("{temperature:25}", r#"{"temperature":25}"#),
        ("{'a b':'c\"d'}", r#"{"a b":"c\"d"}"#),
        ("{a:b c:d}", "error: object without an end at byte 5"),
        ("[hello]", r#"["hello"]"#),
        ("[25°C]", r#"["25°C"]"#),
        ("{true:1,null:2,5:3}", r#"{"true":1,"null":2,"5":3}"#),
        ("[TRUE,False,nULL]", "[true,false,null]"),
        ("[truely]", r#"["truely"]"#),
        (
            "[NaN,-Infinity,007,+1,1.,.5,1e,0x1F,-]",
            r#"["NaN","-Infinity","007","+1","1.",".5","1e","0x1F","-"]"#,
        ),
        (
            "[0,-0,0.0,1E5,1e+5,1.5e-3,12abc]",
            r#"[0,-0,0.0,1E5,1e+5,1.5e-3,"12abc"]"#,
        ),
        // Separators.
        ("{a=1;b=>2;c:3}", r#"{"a":1,"b":2,"c":3}"#),
        ("{a= >2}", r#"{"a":">2"}"#),
        ("[1;2,3]", "[1,2,3]"),
        ("[,]", "[null,null]"),
        ("[1,]", "[1,null]"),
        ("[;1]", "[null,1]"),
        ("[1,,2]", "[1,null,2]"),
        ("{a:1,}", "error: name expected at byte 5"),
        ("{,a:1}", "error: name expected at byte 1"),
        ("{a:,b:1}", "error: value expected at byte 3"),
        ("{a}", "error: colon expected at byte 2"),
        // Comments.
        (
            "/* a */ {a: // b\n 1 # c\r,/**/b:2} // end",
            r#"{"a":1,"b":2}"#,
        ),
        ("{a:1} /* open", "error: comment without an end at byte 6"),
        ("/*/ {}", "error: comment without an end at byte 0"),
        ("[1 / 2]", "error: array without an end at byte 3"),
        // Prefixes.
        ("\u{feff}{a:1}", r#"{"a":1}"#),
        (")]}'\n{a:1}", r#"{"a":1}"#),
        (")]}' {a:1}", "error: text after the document at byte 1"),
        // Nothing is null.
        ("", "null"),
        (" \n# nothing", "null"),
        // The end.
        ("{}x", "error: text after the document at byte 2"),
        ("{}{}", "error: text after the document at byte 2"),
        ("1 2", "error: text after the document at byte 2"),
        ("{", "error: name expected at byte 1"),
        ("{a:", "error: value missing at the end at byte 3"),
        ("[1", "error: array without an end at byte 2"),
        ("]", "error: value expected at byte 0"),
        // Escapes.
        (r#"["\u00e4\t\/\'\"\\"]"#, r#"["ä\t/'\"\\"]"#),
        (r#"["\ud83d\ude00"]"#, r#"["😀"]"#),
        (
            r#"["\ud83dx","\ude00","\ud83d\u0041"]"#,
            "[\"\u{fffd}x\",\"\u{fffd}\",\"\u{fffd}A\"]",
        ),
        (
            r#"["\u12"]"#,
            "error: four hexadecimal digits expected at byte 4",
        ),
        (
            r#"["\u+123"]"#,
            "error: four hexadecimal digits expected at byte 4",
        ),
        (r#"["\x"]"#, "error: unknown escape at byte 3"),
        ("[\"a\nb\\\nc\"]", r#"["a\nb\nc"]"#),
        ("[\"a", "error: string without an end at byte 2"),
        ("[\"a\\", "error: string without an end at byte 4"),
        ("['\\u0000']", r#"["\u0000"]"#),
        // Repeated names: the last value, in the first place.
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
    ] {
        assert_eq!(text(source), expected, "{source}");
    }
}

#[test]
fn repeated_names_among_many_are_found() {
    let members: Vec<_> = (0..100)
        .chain(0..100)
        .map(|i| format!("k{i}:{i}"))
        .collect();
    let Ok(Json::Object(members)) = parse(&format!("{{{}}}", members.join(","))).map(|j| {
        // The borrowed text ends here, so keep what is compared.
        match j {
            Json::Object(members) => Json::Object(
                members
                    .into_iter()
                    .map(|(name, _)| (name.into_owned().into(), Json::Null))
                    .collect(),
            ),
            _ => Json::Null,
        }
    }) else {
        panic!("not an object");
    };
    assert_eq!(members.len(), 100);
    assert!(
        members
            .iter()
            .enumerate()
            .all(|(i, (name, _))| *name == format!("k{i}"))
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(text(&nested(DEPTH_MAX)), nested(DEPTH_MAX));
    assert!(parse(&nested(DEPTH_MAX + 1)).is_err());
    assert!(parse(&"[".repeat(1_000_000)).is_err());
    assert!(parse(&"{a:".repeat(1_000_000)).is_err());
}

#[test]
fn numbers_become_what_thingsboard_makes_of_them() {
    let plain = |digits: &str| Number::Plain(digits.into());
    for (lexeme, expected) in [
        ("25", Number::Long(25)),
        ("-0", Number::Long(0)),
        ("007", Number::Long(7)),
        ("25.0", Number::Double(25.0)),
        ("-0.0", Number::Double(0.0)),
        (".5", Number::Double(0.5)),
        ("1e3", Number::Long(1000)),
        ("1.5e3", Number::Long(1500)),
        ("1.0e0", Number::Long(1)),
        ("2500e-2", Number::Long(25)),
        ("0e999999999", Number::Long(0)),
        ("15e-1", Number::Double(1.5)),
        ("1e-16", Number::Double(1e-16)),
        ("1e-17", plain("0.00000000000000001")),
        (
            "0.1234567890123456",
            Number::Double(0.123_456_789_012_345_6),
        ),
        ("0.12345678901234567", plain("0.12345678901234567")),
        ("-1.50000000000000000", plain("-1.50000000000000000")),
        ("9223372036854775807", Number::Long(i64::MAX)),
        ("-9223372036854775808", Number::Long(i64::MIN)),
        ("9223372036854775808", plain("9223372036854775808")),
        ("00000000000000000000000005", Number::Long(5)),
        ("1e19", plain("10000000000000000000")),
        ("-1.25e20", plain("-125000000000000000000")),
        ("12345678901234567890.0e0", plain("12345678901234567890.0")),
        ("1e999999999", Number::Excessive),
        ("1e-999999999", Number::Excessive),
        ("1.5e99999999999999999999999", Number::Excessive),
        ("1.5e-99999999999999999999999", Number::Excessive),
    ] {
        assert_eq!(classify(lexeme), expected, "{lexeme}");
    }
    assert!(matches!(classify("1e308"), Number::Plain(digits) if digits.len() == 309));
    let long = "9".repeat(PLAIN_DIGITS_MAX + 1);
    assert_eq!(classify(&long), Number::Excessive);
    assert_eq!(classify(&format!("{long}.5")), Number::Excessive);
    let infinite = format!("{}.5", "9".repeat(320));
    assert!(matches!(classify(&infinite), Number::Plain(digits) if digits == infinite));
}

#[test]
fn only_plain_numbers_are_cast() {
    for text in ["25", "007", "-1", "-1.5", "0.0", ".5", "-.5"] {
        assert!(is_castable(text), "{text}");
    }
    for text in [
        "", "-", ".", "1.", "-1.", "1.2.3", "1e3", "+1", " 1", "--1", "0x1", "1-", "٣",
    ] {
        assert!(!is_castable(text), "{text}");
    }
}

proptest! {
    /// Whatever the text: no panic, and what was understood is printed as RFC 8259 text, which both
    /// an independent reader and this one understand.
    #[test]
    fn what_is_read_prints_as_rfc_8259(source in "[\\[\\]{}:,;=>#/*'\"\\\\a-cu0-9eE+. \n-]{0,60}") {
        if let Ok(json) = parse(&source) {
            let mut out = String::new();
            json.write(&mut out);
            prop_assert!(parse(&out).is_ok(), "{}", out);
            let excessive = "number out of range";
            match serde_json::from_str::<serde_json::Value>(&out) {
                Ok(_) => {}
                Err(error) => prop_assert!(error.to_string().contains(excessive), "{out}: {error}"),
            }
        }
    }

    /// Any bytes that RFC 8259 allows are read as an independent reader reads them.
    #[test]
    fn rfc_8259_documents_are_read(value in arbitrary_value()) {
        let source = serde_json::to_string(&value).unwrap();
        let mut out = String::new();
        parse(&source).unwrap().write(&mut out);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), value);
    }

    /// Integers and doubles agree with the standard library's parser.
    #[test]
    fn numbers_agree_with_std(long: i64, double in -1e15..1e15_f64) {
        prop_assert_eq!(classify(&long.to_string()), Number::Long(long));
        let lexeme = format!("{double:.3}");
        let expected = lexeme.parse::<f64>().unwrap() + 0.0;
        prop_assert_eq!(classify(&lexeme), Number::Double(expected));
    }

    #[test]
    fn any_text_is_classified(lexeme in "-?[0-9]{0,25}[.]?[0-9]{0,25}([eE][+-]?[0-9]{0,12})?") {
        if let Number::Plain(digits) = classify(&lexeme) {
            prop_assert!(digits.len() <= PLAIN_DIGITS_MAX + 3);
        }
    }
}

fn arbitrary_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((".{0,4}", inner), 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}
