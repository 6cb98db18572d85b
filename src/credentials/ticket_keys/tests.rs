use super::*;
use crate::random::SeededRandom;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: u64 = 1_790_000_000;
const HOUR: u64 = 3600;

fn names(keyring: &TicketKeyring) -> Vec<[u8; 16]> {
    keyring.keys.iter().map(|key| key.name).collect()
}

fn shared(text: &str) -> Result<TicketKeyring, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, text).unwrap();
    TicketKeyring::shared(&file, DAY).map_err(|error| error.to_string())
}

fn line(name: u8, secret: u8) -> String {
    format!("{} {}\n", to_hex(&[name; 16]), to_hex(&[secret; 32]))
}

#[test]
fn own_keys_are_made_once_kept_to_their_owner_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = SeededRandom::new(1);
    let keyring = TicketKeyring::own(directory.path(), DAY, NOW, &mut random).unwrap();
    assert_eq!(keyring.keys.len(), 1);
    assert_ne!(*keyring.keys[0].secret, [0; 32]);
    let file = directory.path().join(FILE_NAME);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(keyring.warning(), None);
    let again = TicketKeyring::own(directory.path(), DAY, NOW + 60, &mut random).unwrap();
    assert_eq!(names(&again), names(&keyring));
    assert_eq!(*again.keys[0].secret, *keyring.keys[0].secret);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(again.warning().unwrap().contains("chmod 600"));
}

#[test]
fn keys_rotate_and_go_when_no_ticket_of_theirs_is_current() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = SeededRandom::new(1);
    let mut keyring = TicketKeyring::own(directory.path(), DAY, NOW, &mut random).unwrap();
    let first = names(&keyring)[0];
    assert!(!keyring.rotate(NOW + 6 * HOUR - 1, &mut random).unwrap());
    assert!(keyring.rotate(NOW + 6 * HOUR, &mut random).unwrap());
    assert_eq!(names(&keyring)[1], first, "the new one seals");
    for hours in [12, 18, 24, 30] {
        assert!(keyring.rotate(NOW + hours * HOUR, &mut random).unwrap());
        assert!(names(&keyring).contains(&first), "{hours}");
    }
    // The last ticket of the first key was sealed at 6 hours and is good for 24.
    assert!(keyring.rotate(NOW + 36 * HOUR, &mut random).unwrap());
    assert!(!names(&keyring).contains(&first));
    assert_eq!(keyring.keys.len(), 6);
    let again = TicketKeyring::own(directory.path(), DAY, NOW + 36 * HOUR, &mut random).unwrap();
    assert_eq!(names(&again), names(&keyring));
}

#[test]
fn a_clock_that_jumps_leaves_one_good_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = SeededRandom::new(1);
    let mut keyring = TicketKeyring::own(directory.path(), DAY, NOW, &mut random).unwrap();
    for now in [NOW + 1_000_000 * HOUR, NOW, 5] {
        assert!(keyring.rotate(now, &mut random).unwrap());
        assert_eq!(keyring.keys.len(), 1);
        assert_eq!(keyring.keys[0].made_unix_s, now);
    }
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_keys() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = SeededRandom::new(1);
    let mut keyring = TicketKeyring::own(directory.path(), DAY, NOW, &mut random).unwrap();
    let before = names(&keyring);
    std::fs::remove_dir_all(directory.path()).unwrap();
    let error = keyring.rotate(NOW + 7 * HOUR, &mut random).unwrap_err();
    assert!(
        error.to_string().starts_with("TIDEGATE_DATA_DIR: "),
        "{error}"
    );
    assert_eq!(names(&keyring), before);
}

#[test]
fn a_shared_file_is_read_in_its_order_and_never_written() {
    let text = format!("# ours\n\n{}  {}", line(2, 7), line(1, 8));
    let mut keyring = shared(&text).unwrap();
    assert_eq!(names(&keyring), [[2; 16], [1; 16]]);
    assert!(!keyring.rotate(NOW, &mut SeededRandom::new(1)).unwrap());
    assert!(keyring.reload().is_err(), "the file is gone by now");
    assert_eq!(names(&keyring), [[2; 16], [1; 16]]);
}

#[test]
fn a_bad_file_is_refused_with_its_line_and_without_its_secrets() {
    let secret = to_hex(&[0x5e; 32]);
    let name = to_hex(&[1; 16]);
    let many: String = (1..=33).map(|key| line(key, key)).collect();
    for (text, problem) in [
        (String::new(), "holds no key"),
        ("# nothing\n".into(), "holds no key"),
        (format!("{secret} {name}"), "line 1: the name is not 32"),
        (
            format!("\n{name} {}", &secret[1..]),
            "line 2: the secret is not 64",
        ),
        (format!("{name} {}g", &secret[1..]), "the secret is not 64"),
        (name.to_string(), "the secret is not 64"),
        (line(1, 0), "line 1: the secret is all zeros"),
        (
            format!("{name} {secret} 5"),
            "more than a name and a secret",
        ),
        (
            format!("{}{}", line(1, 2), line(1, 3)),
            "line 2: the name of another key",
        ),
        (many, "line 33: more than 32 keys"),
        ("x".repeat(70_000), "longer than"),
    ] {
        let error = shared(&text).unwrap_err();
        assert!(error.contains(problem), "{error}");
        assert!(error.starts_with("TIDEGATE_TICKET_KEYS_FILE: "), "{error}");
        assert!(error.contains("openssl rand"), "{error}");
        assert!(!error.contains("5e5e5e"), "{error}");
    }
}

#[test]
fn an_own_file_that_was_damaged_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE_NAME), line(1, 2)).unwrap();
    let mut random = SeededRandom::new(1);
    let error = TicketKeyring::own(directory.path(), DAY, NOW, &mut random).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("line 1: the time is missing"), "{error}");
    assert!(error.contains("remove it"), "{error}");
}
