//! The commands of README.md, exactly as printed but for the port and the program's folder.

use std::process::{Command, Stdio};

use super::support::{Server, text, tidegate};

/// The lines of the README's `sh` blocks, up to the heading `until`.
fn commands(until: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"))
        .expect("the README");
    let end = readme.find(until).expect("the heading");
    readme[..end]
        .split("```sh\n")
        .skip(1)
        .flat_map(|block| block.split("```").next().unwrap_or_default().lines())
        .map(str::to_owned)
        .collect()
}

/// Runs a line in a shell; returns what it printed.
fn shell(line: &str, directory: &std::path::Path, environment: &[(&str, &str)]) -> String {
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", line])
        .current_dir(directory)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{line}\n{printed}");
    printed
}

#[test]
fn the_first_screen_s_commands_store_and_show_both_readings() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::develop(directory);
    let token = server.tidegate_ok(&["device", "show", "dev-token", "--json"]);
    let device: serde_json::Value = serde_json::from_str(&token).expect("JSON");
    let token = device["credentialsId"]
        .as_str()
        .expect("a token")
        .to_owned();
    let port = server.secure_port;
    let program = env!("CARGO_BIN_EXE_tidegate");
    let lines = commands("## In place of");
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, expected) in lines.iter().zip(["2.01", "42", "2.01", "43"]) {
        let line = line
            .replace("coaps://localhost/", &format!("coaps://localhost:{port}/"))
            .replace("./target/release/tidegate", program);
        let printed = shell(&line, server.directory.path(), &[("TOKEN", &token)]);
        assert!(printed.contains(expected), "{line}\n{printed}");
    }
    assert!(server.terminate());
}

#[test]
fn the_server_prints_commands_that_work() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::develop(directory);
    let log = server.log();
    let printed: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| {
            ["coap-client", "(printf", "tidegate data"]
                .iter()
                .any(|c| line.starts_with(c))
        })
        .collect();
    assert_eq!(printed.len(), 6, "{log}");
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_tidegate"))
        .parent()
        .expect("a folder");
    let path = format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for (line, expected) in printed.iter().zip(["", "42", "", "43", "dA", ""]) {
        let output = shell(line, server.directory.path(), &[("PATH", &path)]);
        assert!(output.contains(expected), "{line}\n{output}");
    }
    assert_eq!(
        server.latest("dev-x509")["temperature"]["value"],
        serde_json::json!(45)
    );
    assert_eq!(
        server.latest("dev-token")["temperature"]["value"],
        serde_json::json!(44)
    );
}

#[test]
fn the_replacement_s_commands_work_in_their_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"))
        .expect("the README");
    let conf = readme
        .split("```conf\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    std::fs::write(
        directory.path().join("thingsboard.conf"),
        conf.expect("the settings"),
    )
    .expect("a file");
    let program = tidegate().get_program().to_string_lossy().into_owned();
    let mut ran = 0;
    for line in commands("## Load").iter().skip(4) {
        if line.contains("tidegate serve") {
            // Serving is what the other tests do; `check` before it loads the same.
            continue;
        }
        let line = line.replace("tidegate ", &format!("{program} "));
        shell(&line, directory.path(), &[]);
        ran += 1;
    }
    assert_eq!(ran, 8);
}
