//! The shape of the code itself: which module may name which, how long a file may get, and what
//! never belongs into the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules and what of `crate::` they may name, themselves included.
const LAYERS: &[(&str, &[&str])] = &[
    ("wire.rs", &[]),
    ("time.rs", &[]),
    ("pace.rs", &["time"]),
    ("random.rs", &[]),
    ("drop_reason.rs", &[]),
    ("histogram.rs", &[]),
    ("buffer.rs", &[]),
    ("slab.rs", &["random"]),
    ("timer_wheel.rs", &["time", "random"]),
    ("crypto", &["crypto", "random", "wire"]),
    (
        "dtls",
        &["dtls", "crypto", "wire", "time", "random", "drop_reason"],
    ),
    (
        "coap",
        &[
            "coap",
            "auth",
            "buffer",
            "wire",
            "time",
            "random",
            "drop_reason",
        ],
    ),
    (
        "endpoint",
        &[
            "endpoint",
            "dtls",
            "coap",
            "auth",
            "buffer",
            "metrics",
            "slab",
            "timer_wheel",
            "wire",
            "time",
            "random",
            "drop_reason",
        ],
    ),
    (
        "auth",
        &["auth", "coap", "crypto", "queue", "registry", "store"],
    ),
    ("store", &["store", "registry", "crypto", "histogram"]),
    ("registry", &["registry", "store", "crypto", "random"]),
];

/// Names of sockets, clocks, threads and operating-system randomness, which sans-IO code is handed
/// in their stead.
const IMPURE: &[&str] = &[
    "std::net::UdpSocket",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "SystemRandom",
    "tokio",
    "glommio",
];
const SANS_IO: &[&str] = &[
    "dtls",
    "coap",
    "endpoint",
    "wire.rs",
    "slab.rs",
    "buffer.rs",
    "timer_wheel.rs",
    "time.rs",
];

/// Lines of a file before one should look again whether it is still one thing.
const LINES_MAX: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below `path`, or `path` itself.
fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
        let path = entry.expect("a directory entry").path();
        // Workspaces of their own below tests build there.
        if path.file_name().is_some_and(|name| name == "target") {
            continue;
        }
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The lines of a file that are code of the product: no comments, nothing from the tests on.
fn product_lines(path: &Path) -> Vec<(usize, String)> {
    let is_test = path.file_stem().is_some_and(|stem| stem == "tests")
        || path.components().any(|part| part.as_os_str() == "tests");
    if is_test {
        return Vec::new();
    }
    fs::read_to_string(path)
        .expect("a readable file")
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]" || line.starts_with(' '))
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect()
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (module, allowed) in LAYERS {
        for file in rust_files(&root().join("src").join(module)) {
            for (number, line) in product_lines(&file) {
                for used in line.split("crate::").skip(1) {
                    let name: String = used
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect();
                    if !name.is_empty() && !allowed.contains(&name.as_str()) {
                        wrong.push(format!(
                            "{}:{number}: {module} names {name}",
                            file.display()
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn protocol_code_does_no_io_of_its_own() {
    let mut wrong = Vec::new();
    for module in SANS_IO {
        for file in rust_files(&root().join("src").join(module)) {
            for (number, line) in product_lines(&file) {
                if let Some(name) = IMPURE.iter().find(|name| line.contains(**name)) {
                    wrong.push(format!("{}:{number}: {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_crypto_and_credentials_name_crypto_crates() {
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("src")) {
        let relative = file
            .strip_prefix(root().join("src"))
            .expect("below src")
            .to_owned();
        if relative.starts_with("crypto") || relative.starts_with("credentials") {
            continue;
        }
        for (number, line) in product_lines(&file) {
            if line.contains("aws_lc_rs")
                || line.contains("ccm::")
                || line.contains("aes::")
                || line.contains("sha2::")
            {
                wrong.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_can_be_read_in_a_sitting() {
    let mut long = Vec::new();
    for folder in ["src", "loadgen", "bench", "tests"] {
        for file in rust_files(&root().join(folder)) {
            let lines = fs::read_to_string(&file)
                .expect("a readable file")
                .lines()
                .count();
            if lines > LINES_MAX {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    const ALLOWED: &[&str] = &[
        "crypto/aead/ccm_aesni.rs",
        "shard/socket.rs",
        "shard/driver/uring.rs",
        "shard/driver/uring/memory.rs",
        "shard/local_addresses.rs",
        "shard/steering.rs",
    ];
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("src")) {
        let relative = file
            .strip_prefix(root().join("src"))
            .expect("below src")
            .to_owned();
        if ALLOWED.iter().any(|allowed| relative == Path::new(allowed)) {
            continue;
        }
        for (number, line) in product_lines(&file) {
            if line.contains("unsafe ") || line.contains("allow(unsafe_code") {
                wrong.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `cargo deny check licenses bans` checks, for machines without it: the lists are deny.toml's.
#[test]
fn dependencies_have_the_licences_and_names_that_deny_toml_allows() {
    let deny = fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let allowed: Vec<&str> = between(&deny, "allow = [", "]")
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    let banned: Vec<&str> = between(&deny, "deny = [", "]")
        .split("name = \"")
        .skip(1)
        .filter_map(|item| item.split('"').next())
        .collect();
    assert!(
        allowed.contains(&"Apache-2.0") && banned.contains(&"ring"),
        "deny.toml is not read right"
    );
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or("none stated");
        // `A OR B` is fine when one is; `A AND B` when all are.
        let fine = licence
            .replace('/', " OR ")
            .replace(['(', ')'], "")
            .split(" OR ")
            .any(|choice| {
                choice
                    .split(" AND ")
                    .all(|part| allowed.contains(&part.trim().trim_end_matches('+')))
            });
        if !fine {
            wrong.push(format!("{name}: {licence}"));
        }
        if banned.contains(&name) {
            wrong.push(format!("{name} is banned"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.find(start).expect("the start") + start.len();
    let rest = &text[from..];
    &rest[..rest.find(end).expect("the end")]
}
