//! The Debian package, from its making to its end, on a throw-away copy of this machine's files.

use std::path::{Path, PathBuf};
use std::process::Command;

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes a package of the binaries under test.
fn build(out: &Path, version: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    let binaries = out.join("binaries");
    std::fs::create_dir_all(&binaries).expect("a directory");
    std::fs::copy(binary, binaries.join("tidegate")).expect("a copy");
    // The load generator belongs to another package of the workspace, which need not be built yet:
    // what is tested is the way of the package, and the server in it.
    std::fs::copy("/bin/true", binaries.join("tidegate-loadgen")).expect("a copy");
    run(Command::new(root.join("packaging/build-deb"))
        .arg("--binaries")
        .arg(&binaries)
        .args(["--version", version, "--out"])
        .arg(out));
    let found = std::fs::read_dir(out)
        .expect("a directory")
        .find_map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name()?.to_str()?;
            name.starts_with(&format!("tidegate_{version}_"))
                .then_some(path)
        });
    found.expect("a package")
}

/// Install, start, upgrade, remove and purge. Needs root, as dpkg does; `sudo` where it is not.
#[test]
fn the_package_installs_starts_upgrades_and_leaves() {
    let directory = tempfile::tempdir().expect("a directory");
    let version = env!("CARGO_PKG_VERSION");
    let old = build(directory.path(), version);
    let new = build(directory.path(), &format!("{version}+upgrade"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packaging/package.sh");
    let is_root = Command::new("id").arg("-u").output().expect("id").stdout == b"0\n";
    let mut command = if is_root {
        Command::new("sh")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "sh"]);
        command
    };
    run(command.arg(script).arg(old).arg(new));
}
