//! A run of a second per load: the table of targets comes out, with every row.

use std::process::Command;

#[test]
fn the_table_of_targets_comes_out() {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"))
        .args(["system", "--smoke", "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let table = std::fs::read_to_string(out.path().join("table.md")).unwrap();
    assert!(table.contains("smoke run"), "{table}");
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.contains("| at most "))
        .collect();
    assert_eq!(rows.len(), 18, "{table}");
    // The peers are not part of this run; all else is measured.
    let missing: Vec<&&str> = rows
        .iter()
        .filter(|row| row.contains("| not measured |"))
        .collect();
    assert_eq!(missing.len(), 4, "{table}");
    assert!(
        missing
            .iter()
            .all(|row| row.contains("libcoap") || row.contains("Californium")),
        "{table}"
    );
}
