//! `tidegate completion` and `tidegate man`, read by the shells and by man themselves.

use super::Place;
use std::process::Command;

#[test]
fn bash_completes_commands_and_options() {
    let place = Place::new();
    let script = place.run(&["completion", "bash"]).ok();
    place.write("completion.bash", script);
    for (words, expected) in [
        ("tidegate sess", "session"),
        ("tidegate attr set-", "set-profile"),
        ("tidegate device add --to", "--token"),
        ("tidegate completion f", "fish"),
    ] {
        let ask = format!(
            "source completion.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _tidegate tidegate \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash")
            .args(["-c", &ask])
            .current_dir(&place)
            .output()
            .expect("bash");
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(out.trim(), expected, "{words}: {output:?}");
    }
}

#[test]
fn other_shells_have_their_scripts() {
    let place = Place::new();
    let zsh = place.run(&["completion", "zsh"]).ok();
    assert!(zsh.starts_with("#compdef tidegate"), "{zsh}");
    let fish = place.run(&["completion", "fish"]).ok();
    assert!(fish.contains("complete -c tidegate"), "{fish}");
    assert_eq!(place.run(&["completion", "cmd.exe"]).code, Some(2));
}

#[test]
fn every_command_has_a_page() {
    let place = Place::new();
    let page = place.run(&["man"]).ok();
    assert!(page.contains(".TH tidegate 1"), "{page}");
    std::fs::create_dir(place.path("man")).unwrap();
    place.run(&["man", "--out", "man"]).ok();
    for name in [
        "tidegate",
        "tidegate-serve",
        "tidegate-device",
        "tidegate-device-add",
        "tidegate-attr-set",
        "tidegate-session-close",
        "tidegate-completion",
    ] {
        let path = place.path("man").join(format!("{name}.1"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{name}.1"));
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
    }
    // Examples are to be typed: between .nf and .fi man breaks no line, and runs none into the next.
    let page = std::fs::read_to_string(place.path("man").join("tidegate-rpc-send.1")).unwrap();
    let (_, examples) = page.split_once(".SH EXAMPLES\n.nf\n").expect(&page);
    let (examples, _) = examples.split_once("\n.fi\n").expect(&page);
    let first = examples.lines().next();
    assert!(
        first.is_some_and(|line| line.contains("tidegate rpc send")),
        "{page}"
    );
    let err = place.run(&["man", "--out", "missing"]).refused();
    assert!(err.contains("cannot be written to missing"), "{err}");
}
