//! Both ways of datagrams through the kernel, chosen by setting or by what the kernel has.

#![allow(unsafe_code, reason = "a kernel that lacks something")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "small constants of the kernel"
)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::support::{Link, Server, hex, text, tidegate};

fn telemetry(message_id: u16) -> Vec<u8> {
    let mut message = vec![0x44, 0x02];
    message.extend_from_slice(&message_id.to_be_bytes());
    message.extend_from_slice(&hex(
        "deadbeef b3617069 027631 05544f4b454e 0974656c656d65747279",
    ));
    message.extend_from_slice(b"\xff{a:1}");
    message
}

#[test]
fn a_device_is_served_either_way_and_the_way_is_shown() {
    for driver in ["uring", "mmsg"] {
        let mut server = Server::start(&[("TIDEGATE_DRIVER", driver)]);
        server.tidegate_ok(&["device", "add", "device", "--token", "TOKEN"]);
        for mut link in [Link::anonymous(&server), Link::plain(&server)] {
            for message_id in 0..200 {
                let answer = link.exchange(&telemetry(message_id)).expect("an answer");
                assert_eq!(answer[1], 0x41, "{driver}");
            }
        }
        let metrics = server.http("/metrics").expect("metrics");
        let shown = format!("tidegate_driver_info{{driver=\"{driver}\"}} 1");
        assert!(metrics.contains(&shown), "{metrics}");
        server.wait_for_log(&format!("datagrams travel driver=\"{driver}\""));
        assert!(server.terminate(), "{}", server.log());
    }
}

/// Gives the process a kernel that has rings, but none of provided buffers, as before Linux 5.19.
fn without_buffer_rings(command: &mut Command) {
    /// `IORING_REGISTER_PBUF_RING`, the second argument of io_uring_register.
    const REGISTER_BUFFER_RING: u32 = 22;
    /// Where a filter finds the call's number, and the low half of its second argument.
    const NUMBER: u32 = 0;
    const SECOND: u32 = if cfg!(target_endian = "little") {
        24
    } else {
        28
    };
    const fn statement(code: u32, k: u32, jump_false: u8) -> libc::sock_filter {
        libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: jump_false,
            k,
        }
    }
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    static FILTER: [libc::sock_filter; 6] = [
        statement(LOAD, NUMBER, 0),
        statement(IS, libc::SYS_io_uring_register as u32, 3),
        statement(LOAD, SECOND, 0),
        statement(IS, REGISTER_BUFFER_RING, 1),
        statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32, 0),
        statement(RETURN, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let install = || {
        let program = libc::sock_fprog {
            len: 6,
            filter: FILTER.as_ptr().cast_mut(),
        };
        // SAFETY: two system calls, which are allowed between fork and exec; the filter outlives them,
        // and is only read.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ) == 0
        };
        match installed {
            true => Ok(()),
            false => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure only makes system calls, and allocates nothing.
    unsafe { command.pre_exec(install) };
}

#[test]
fn a_kernel_without_what_the_ring_needs_is_served_the_other_way_and_the_log_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [("TIDEGATE_DRIVER", "auto"), ("COAP_DTLS_ENABLED", "false")];
    let mut server = Server::start_prepared(directory, &settings, without_buffer_rings);
    server.wait_for_log("the kernel has no io_uring for datagrams error=Invalid argument");
    server.wait_for_log("datagrams travel driver=\"mmsg\"");
    server.tidegate_ok(&["device", "add", "device", "--token", "TOKEN"]);
    let answer = Link::plain(&server).exchange(&telemetry(1));
    assert_eq!(answer.expect("an answer")[1], 0x41);
    let metrics = server.http("/metrics").expect("metrics");
    assert!(metrics.contains("tidegate_driver_info{driver=\"mmsg\"} 1"));
    assert!(server.terminate(), "{}", server.log());
}

#[test]
fn the_ring_is_not_given_up_for_another_way_when_it_was_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = tidegate();
    command
        .arg("serve")
        .current_dir(directory.path())
        .env("TIDEGATE_DRIVER", "uring")
        .env("TIDEGATE_ADMIN_BIND", "")
        .env("COAP_BIND_ADDRESS", "127.0.0.1")
        .env("COAP_BIND_PORT", "0");
    without_buffer_rings(&mut command);
    let output = command.output().expect("tidegate runs");
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr) + &text(&output.stdout);
    assert!(
        message.contains("TIDEGATE_DRIVER") && message.contains("auto or mmsg"),
        "{message}"
    );
}

#[test]
fn check_explains_the_setting_and_refuses_others() {
    let output = tidegate()
        .args(["check", "--explain"])
        .output()
        .expect("tidegate runs");
    let printed = text(&output.stdout);
    assert!(
        printed.contains("TIDEGATE_DRIVER") && printed.contains("recvmmsg"),
        "{printed}"
    );
    let output = tidegate()
        .arg("check")
        .env("TIDEGATE_DRIVER", "epoll")
        .output()
        .expect("tidegate runs");
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("TIDEGATE_DRIVER") && message.contains("auto or uring or mmsg"),
        "{message}"
    );
}
