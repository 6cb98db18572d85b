use super::*;
use crate::registry::{Credential, Registry};
use crate::store::embedded::{StoreSettings, open};
use tempfile::TempDir;

struct Imported {
    progress: Progress,
    refused: Vec<Refused>,
    calls: usize,
}

fn import_into(registry: &dyn Registry, csv: &[u8], base: &Path) -> Imported {
    let (mut refused, mut calls) = (Vec::new(), 0);
    let mut add = |devices| -> io::Result<Vec<Result<(), String>>> {
        let results = registry.add_many(devices).into_iter();
        Ok(results
            .map(|added| added.map(drop).map_err(|error| error.to_string()))
            .collect())
    };
    let progress = import(
        &mut add,
        &mut &csv[..],
        Some(base),
        &mut |_| calls += 1,
        &mut |line| {
            refused.push(line);
        },
    );
    Imported {
        progress: progress.unwrap(),
        refused,
        calls,
    }
}

#[test]
fn good_lines_are_added_and_bad_ones_named() {
    let directory = TempDir::new().unwrap();
    let registry = open(directory.path(), &StoreSettings::default())
        .unwrap()
        .registry;
    let certificate = rcgen::generate_simple_self_signed(vec!["d".into()])
        .unwrap()
        .cert;
    let base = TempDir::new().unwrap();
    std::fs::write(base.path().join("c.pem"), certificate.pem()).unwrap();
    std::fs::write(base.path().join("d.DER"), certificate.der()).unwrap();
    std::fs::write(base.path().join("junk.crt"), "no certificate").unwrap();
    let long = "x".repeat(9000);
    let csv = format!(
        "\u{feff}name,token\r\n\
         a,TA\r\n\
         \n\
         # a comment\n\
         b , TB \n\
         \"c, with \"\"quotes\"\"\",c.pem\n\
         d,d.DER\n\
         e\n\
         f,\n\
         a,TX\n\
         g,TA\n\
         h,missing.pem\n\
         i,junk.crt\n\
         j,1,2\n\
         {long},T\n\
         \"k,T\n\
         l,\"T\"x\n\
         m,TM"
    );
    let imported = import_into(&*registry, csv.as_bytes(), base.path());
    let lines: Vec<_> = imported
        .refused
        .iter()
        .map(|refused| refused.line)
        .collect();
    // In the order in which they are noticed: what is wrong with the line itself comes first.
    assert_eq!(lines, [12, 13, 14, 15, 16, 17, 7, 10, 11]);
    let reason = |line| {
        &imported
            .refused
            .iter()
            .find(|r| r.line == line)
            .unwrap()
            .reason
    };
    assert!(
        reason(7).contains("belongs to device"),
        "the same certificate twice"
    );
    assert!(reason(12).contains("missing.pem"));
    assert!(reason(13).contains("no certificate"));
    assert!(reason(15).contains("longer than"));
    assert_eq!(imported.progress.lines, 18);
    assert_eq!(imported.progress.bytes, csv.len() as u64);
    assert_eq!((imported.progress.added, imported.progress.refused), (6, 9));
    for (name, token) in [("a", "TA"), ("b", "TB"), ("m", "TM")] {
        let device = registry.device_by_name(name).unwrap();
        assert_eq!(device.credential, Credential::AccessToken(token.into()));
    }
    let by_certificate = registry.device_by_name("c, with \"quotes\"").unwrap();
    assert!(matches!(by_certificate.credential, Credential::X509 { .. }));
    for random in ["e", "f"] {
        let device = registry.device_by_name(random).unwrap();
        assert!(matches!(&device.credential, Credential::AccessToken(token) if token.len() == 20));
    }
}

#[test]
fn progress_is_reported_by_group() {
    let directory = TempDir::new().unwrap();
    let registry = open(directory.path(), &StoreSettings::default())
        .unwrap()
        .registry;
    let mut csv: Vec<u8> = (0..2500)
        .flat_map(|i| format!("d{i},t{i}\n").into_bytes())
        .collect();
    csv.extend_from_slice(b"\xff\xfe,x\n");
    let imported = import_into(&*registry, &csv, Path::new("."));
    assert_eq!(imported.calls, 3);
    assert_eq!(
        (imported.progress.added, imported.progress.refused),
        (2500, 1)
    );
    assert_eq!(imported.refused[0].line, 2501);
    assert_eq!(registry.len(), 2500);
    assert_eq!(
        import_into(&*registry, b"", Path::new(".")).progress,
        Progress::default()
    );
}

#[test]
fn three_fields_are_a_pre_shared_key() {
    let directory = TempDir::new().unwrap();
    let registry = open(directory.path(), &StoreSettings::default())
        .unwrap()
        .registry;
    let csv = b"name,identity,key\n\
        a,meter a,8f0e1d2c3b4a59687766554433221100\n\
        b,\"b, quoted\",8F0E1D2C3B4A59687766554433221101\n\
        c,,8f0e1d2c3b4a59687766554433221100\n\
        d,d,8f0e1d2c\n\
        e,e,not hexadecimal\n\
        f,f,00,1\n\
        g,meter a,8f0e1d2c3b4a59687766554433221100\n";
    let imported = import_into(&*registry, csv, Path::new("."));
    assert_eq!((imported.progress.added, imported.progress.refused), (2, 5));
    let lines: Vec<_> = imported
        .refused
        .iter()
        .map(|refused| refused.line)
        .collect();
    // Those of which nothing can be read come before those that the registry refuses.
    assert_eq!(lines, [5, 6, 7, 4, 8]);
    assert!(imported.refused[0].reason.contains("shorter than 16"));
    let shown = format!("{:?}", imported.refused);
    assert!(!shown.contains("8f0e1d2c"), "a key in a message: {shown}");
    let device = registry.device_by_name("b").unwrap();
    let Credential::PreSharedKey { identity, key } = &device.credential else {
        panic!("{device:?}");
    };
    assert_eq!(&**identity, "b, quoted");
    assert_eq!(key.as_bytes()[..2], [0x8f, 0x0e]);
}
