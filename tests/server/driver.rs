//! Both ways of datagrams through the kernel, chosen by setting.

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
