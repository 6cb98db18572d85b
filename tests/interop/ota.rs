//! Firmware by libcoap's clients over DTLS: a link that loses datagrams, a server that is killed and
//! started again in the middle, and devices with a token and with a certificate.
//!
//! libcoap's client does not make a new session when its server has lost the old one, and goes on by
//! itself only from block 0. So the device asks for each block that it lacks by `-b NUMBER,1024`, in a
//! session of its own: any block is served by itself, without any state of the server's from before.

use std::path::Path;
use std::time::{Duration, Instant};

use super::proxy::{Faults, Proxy};
use super::support::{Dialogue, Server, run_client, text};

const CLIENTS: &[&str] = &["coap-client-openssl", "coap-client-gnutls"];
const BLOCK: usize = 1024;
/// A lost datagram costs the client two to three seconds.
const PATIENCE: Duration = Duration::from_secs(1800);

fn firmware(length: usize) -> Vec<u8> {
    let mut word = 1_u32;
    let bytes = std::iter::repeat_with(|| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        word.to_be_bytes()[0]
    });
    bytes.take(length).collect()
}

/// A server with a firmware of this length for the device with token METERTOKEN.
fn server(length: usize) -> (Server, Vec<u8>) {
    let server = Server::start(&[]);
    server.tidegate_ok(&["device", "add", "meter", "--token", "METERTOKEN"]);
    let bytes = firmware(length);
    std::fs::write(server.path("fw.bin"), &bytes).unwrap();
    server.tidegate_ok(&["ota", "add", "fw.bin", "--title", "T", "--version", "1"]);
    server.tidegate_ok(&["ota", "assign", "1", "--device", "meter"]);
    (server, bytes)
}

/// The checksum that the device was told, as `fw_checksum`.
#[track_caller]
fn check(server: &Server, got: &[u8], expected: &[u8], client: &str) {
    assert_eq!(got.len(), expected.len(), "{client}");
    assert!(got == expected, "{client}: other bytes");
    std::fs::write(server.path("whole.bin"), got).unwrap();
    let sum = run_client("sha256sum", &["whole.bin"], server.directory.path());
    let told = server.tidegate_ok(&["attr", "get", "meter", "--scope", "shared"]);
    let sum = text(&sum.stdout);
    let (sum, _) = sum.split_once(' ').expect("a checksum");
    assert!(told.contains(sum), "{client}: {sum} is not in {told}");
}

/// Starts the client for the package: for all of it, written as it comes, or for one block.
fn download(client: &str, server: &Server, port: u16, block: usize, out: &str) -> Dialogue {
    let uri = format!("coaps://localhost:{port}/fw/METERTOKEN?title=T&version=1");
    let block = format!("{block},{BLOCK}");
    let arguments = ["-m", "get", "-B", "3600", "-b", &block, "-o", out, &uri];
    Dialogue::start(client, &arguments, server.directory.path())
}

fn length_of(path: &Path) -> usize {
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    usize::try_from(length).unwrap()
}

/// Downloads block by block over a bad link; the server dies when the device has a quarter: libcoap
/// 4.3.1 asks for no further block once its first request is a minute and a half old.
fn block_by_block(client: &str, length: usize, faults: Faults) {
    let (mut server, bytes) = server(length);
    let proxy = Proxy::start(server.secure_port, faults, 7);
    let first = server.path("first.bin");
    let running = download(client, &server, proxy.port, 0, "first.bin");
    let deadline = Instant::now() + PATIENCE;
    while length_of(&first) < length / 4 {
        assert!(Instant::now() < deadline, "{client}: {}", length_of(&first));
        std::thread::sleep(Duration::from_millis(50));
    }
    server.kill();
    drop(running);
    server.spawn();
    let mut got = std::fs::read(&first).unwrap();
    let blocks = got.len() / BLOCK;
    assert!(got.len() < length, "{client}: the server was too fast");
    got.truncate(blocks * BLOCK);
    // From another address, as after a restart of the device.
    let again = Proxy::start(server.secure_port, faults, 8);
    for block in blocks..length.div_ceil(BLOCK) {
        let mut running = download(client, &server, again.port, block, "block.bin");
        let said = running.ended_within(PATIENCE);
        let said = said.unwrap_or_else(|said| panic!("{client} does not end: {said}"));
        let read = std::fs::read(server.path("block.bin"));
        got.extend(read.unwrap_or_else(|error| panic!("{client}: {block}: {error}: {said}")));
        std::fs::remove_file(server.path("block.bin")).unwrap();
    }
    check(&server, &got, &bytes, client);
    for proxy in [proxy, again] {
        let (seen, lost) = proxy.counts();
        assert!(lost > 0, "{client}: none of {seen} datagrams was lost");
    }
}

/// Downloads in chunks, each by a session of its own; the server dies after each second one.
fn by_chunks(client: &str, length: usize, chunk_bytes: usize, faults: Faults) {
    let (mut server, bytes) = server(length);
    let mut got = Vec::new();
    let mut all_lost = 0;
    for chunk in 0..length.div_ceil(chunk_bytes) {
        let proxy = Proxy::start(server.secure_port, faults, chunk as u64);
        let uri = format!(
            "coaps://localhost:{}/fw/METERTOKEN?title=T&version=1&size={chunk_bytes}&chunk={chunk}",
            proxy.port
        );
        let arguments = [
            "-m", "get", "-B", "3600", "-b", "1024", "-o", "part.bin", &uri,
        ];
        let mut running = Dialogue::start(client, &arguments, server.directory.path());
        let said = running.ended_within(PATIENCE);
        let said = said.unwrap_or_else(|said| panic!("{client} does not end: {said}"));
        let part = std::fs::read(server.path("part.bin"));
        got.extend(part.unwrap_or_else(|error| panic!("{client}: {error}: {said}")));
        std::fs::remove_file(server.path("part.bin")).unwrap();
        all_lost += proxy.counts().1;
        if chunk % 2 == 1 {
            server.kill();
            server.spawn();
        }
    }
    check(&server, &got, &bytes, client);
    assert!(all_lost > 0, "{client}: no datagram was lost");
}

fn on_both_clients(test: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for client in CLIENTS {
            let test = &test;
            scope.spawn(move || test(client));
        }
    });
}

/// One datagram in twenty of each direction.
const BAD: Faults = Faults {
    loss: 1,
    duplication: 0,
    reordering: 0,
    calm: 10,
};

/// One datagram in a hundred.
const FAIR: Faults = Faults { calm: 90, ..BAD };

const MEGABYTES_5: usize = 5_000_000;

#[test]
fn a_firmware_comes_over_a_lossy_link_and_a_restart() {
    on_both_clients(|client| block_by_block(client, 48 * BLOCK + 17, BAD));
}

#[test]
fn a_firmware_comes_in_chunks_over_a_lossy_link_and_restarts() {
    on_both_clients(|client| by_chunks(client, 128 * BLOCK + 17, 32 * BLOCK, BAD));
}

/// The whole of it: `cargo test --test interop -- --ignored five_megabytes`.
#[test]
#[ignore = "takes several minutes, which its losses cost"]
fn five_megabytes_come_over_a_lossy_link_and_a_restart() {
    on_both_clients(|client| block_by_block(client, MEGABYTES_5, FAIR));
}

#[test]
#[ignore = "takes several minutes, which its losses cost"]
fn five_megabytes_come_in_chunks_over_a_lossy_link_and_restarts() {
    on_both_clients(|client| by_chunks(client, MEGABYTES_5, 512 * BLOCK, FAIR));
}

/// Beyond ThingsBoard, whose `/fw` knows tokens only.
#[test]
fn a_device_with_a_certificate_has_its_firmware() {
    let server = Server::start(&[]);
    let (certificate, key) = server.certificate_device("meter");
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let bytes = firmware(MEGABYTES_5);
    std::fs::write(server.path("fw.bin"), &bytes).unwrap();
    server.tidegate_ok(&["ota", "add", "fw.bin", "--title", "T", "--version", "1"]);
    server.tidegate_ok(&["ota", "assign", "1", "--device", "meter"]);
    let uri = format!("coaps://localhost:{}/fw?title=T", server.secure_port);
    for client in CLIENTS {
        let ca = server.path("server.pem").display().to_string();
        let arguments = [
            &["-m", "get", "-B", "60", "-b", "1024", "-o", "got.bin"][..],
            &["-C", &ca, "-c", files[0], "-j", files[1], &uri],
        ];
        let arguments = arguments.concat();
        let mut running = Dialogue::start(client, &arguments, server.directory.path());
        let said = running.ended_within(PATIENCE);
        let said = said.unwrap_or_else(|said| panic!("{client} does not end: {said}"));
        let got = std::fs::read(server.path("got.bin"));
        let got = got.unwrap_or_else(|error| panic!("{client}: {error}: {said}"));
        check(&server, &got, &bytes, client);
        std::fs::remove_file(server.path("got.bin")).unwrap();
    }
}
