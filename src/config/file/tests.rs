use super::*;

fn read(text: &str) -> Parsed {
    let environment = |name: &str| (name == "HOME").then(|| "/home/op".to_owned());
    parse(text, &|name| name.starts_with("COAP_"), &environment)
}

/// The value of the only assignment in `text`.
fn value(text: &str) -> String {
    let parsed = read(text);
    assert_eq!(parsed.faults, [], "{text}");
    assert_eq!(parsed.assignments.len(), 1, "{text}");
    parsed.assignments[0].value.clone()
}

/// The reason of the only fault in `text`.
fn fault(text: &str) -> String {
    let parsed = read(text);
    assert_eq!(parsed.assignments, [], "{text}");
    assert_eq!(parsed.faults.len(), 1, "{text}");
    parsed.faults[0].reason.clone()
}

#[test]
fn values_are_read_as_a_shell_reads_them() {
    for (line, expected) in [
        ("COAP_A=1", "1"),
        ("  export\tCOAP_A=1  ", "1"),
        ("COAP_A=", ""),
        ("COAP_A=''", ""),
        ("COAP_A=1 # comment", "1"),
        ("COAP_A=1#2", "1#2"),
        ("COAP_A='a # b' # c", "a # b"),
        ("COAP_A=\"a b\"", "a b"),
        ("COAP_A=a' b 'c\" d\"", "a b c d"),
        (r#"COAP_A="a\"b\\c\$d\x""#, r#"a"b\c$d\x"#),
        (r"COAP_A='a\b$c'", r"a\b$c"),
        (r"COAP_A=a\ b\'c", "a b'c"),
        ("COAP_A=1;", "1"),
        ("COAP_A=1; OTHER=2", "1"),
        ("OTHER=2 COAP_A=1", "1"),
        ("COAP_A=$HOME/x", "/home/op/x"),
        ("COAP_A=\"${HOME}x\"", "/home/opx"),
        ("COAP_A=${NONE:-5683}", "5683"),
        ("COAP_A=${HOME:-5683}", "/home/op"),
        ("COAP_A=5$", "5$"),
        ("COAP_A=\"5$ \"", "5$ "),
        ("X=1\nX=${X}2\nCOAP_A=$X", "12"),
        ("COAP_A=a\\\nb", "ab"),
        ("\u{feff}COAP_A=1\r\n", "1"),
        ("COAP_A='äöü 🔑'", "äöü 🔑"),
        ("COAP_A=äöü # é", "äöü"),
    ] {
        assert_eq!(value(line), expected, "{line}");
    }
}

#[test]
fn other_lines_are_passed_over() {
    let text = "\
# export COAP_A=1
...
#!/bin/sh
if [ -f x ]; then
JAVA_OPTS=\"$JAVA_OPTS -Xlog:gc*,heap*:file=/var/log/gc.log -XX:+UseG1GC\"
export JAVA_OPTS=\"$JAVA_OPTS -XX:+HeapDumpOnOutOfMemoryError\"
export LOG_FILENAME=thingsboard.out
export LOADER_PATH=/usr/share/thingsboard/conf,$(ls) `x`
OTHER='open
fi
export COAP_NAME_ONLY
COAP_MARKED # exported above
# ends in a backslash \\
";
    assert_eq!(read(text), Parsed::default());
    // The comment above did not swallow a line.
    assert_eq!(value("# ends in a backslash \\\nCOAP_A=1\n"), "1");
}

#[test]
fn lines_that_meant_a_setting_are_faults() {
    for (line, reason) in [
        ("COAP_A = 1", "white space before the ="),
        ("export COAP_A =1", "white space before the ="),
        ("COAP_A: 1", "not an assignment"),
        ("COAP_A 1", "not an assignment"),
        ("COAP_A+=1", "not an assignment"),
        ("COAP_A='1", "a quote is not closed"),
        ("COAP_A=\"1", "a quote is not closed"),
        ("COAP_A=\"1\\", "a quote is not closed"),
        ("COAP_A=$(id)", "it would run a command"),
        ("COAP_A=`id`", "it would run a command"),
        ("COAP_A=\"`id`\"", "it would run a command"),
        ("COAP_A=$NONE", "the variable after a $ is not set"),
        ("COAP_A=${NONE}", "the variable after a $ is not set"),
        ("COAP_A=${HOME%x}", "a $ expression"),
        ("COAP_A=${}", "a $ expression"),
        ("COAP_A=a$$b", "a $ expression"),
        ("COAP_A=a|b", "a character that a shell treats specially"),
    ] {
        let found = fault(line);
        assert!(found.starts_with(reason), "{line}: {found}");
    }
    let parsed = read("\n\nCOAP_A=two words\n");
    assert_eq!(parsed.faults[0].line, 3);
    assert_eq!(parsed.faults[0].reason, "more words follow the value");
}

#[test]
fn line_numbers_count_joined_lines() {
    let parsed = read("A=1\\\n2\nCOAP_A=x\\\ny\nCOAP_B=z\n");
    let lines: Vec<_> = parsed.assignments.iter().map(|a| a.line).collect();
    assert_eq!(lines, [3, 5]);
}

#[test]
fn expansion_cannot_grow_without_bound() {
    // Each line doubles the value.
    let mut text = String::from("X=0123456789abcdef\n");
    text.push_str(&"X=$X$X\n".repeat(64));
    text.push_str("COAP_A=$X\n");
    let parsed = read(&text);
    assert!(
        parsed
            .assignments
            .iter()
            .all(|a| a.value.len() <= VALUE_MAX)
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_read(text in "(?s).{0,200}") {
        read(&text);
    }

    #[test]
    fn near_assignments_are_read(text in "(export )?COAP_A ?=['\"$\\\\{}#;a ]{0,20}\n?COAP_B=1") {
        read(&text);
    }

    /// Whatever is put in single quotes comes out as it was.
    #[test]
    fn literals_are_kept(text in "[^'\r\n]{0,50}") {
        if !text.ends_with('\\') {
            assert_eq!(value(&format!("COAP_A='{text}'")), text);
        }
    }
}
