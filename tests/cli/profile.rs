//! `tidegate profile`, `device set`, `ota` without a server.

use super::{Ended, Place};

#[track_caller]
fn fails_with(ended: Ended, part: &str) {
    let said = ended.refused();
    assert!(said.contains(part), "{said}");
}

#[test]
fn a_device_is_given_another_profile() {
    let place = Place::new();
    let listed = place.run(&["profile", "list"]);
    fails_with(listed, "no data directory");
    place.run(&["profile", "add", "meter"]).ok();
    let listed = place.run(&["profile", "list"]).ok();
    assert!(
        listed.contains("default") && listed.contains("meter"),
        "{listed}"
    );
    let added = place.run(&["device", "add", "m", "--profile", "mete"]);
    assert!(
        added.err.contains("note: no profile \"mete\" is defined"),
        "{}",
        added.err
    );
    added.ok();
    let set = place.run(&[
        "device",
        "set",
        "m",
        "profile=meter",
        "powerSaving.mode=PSM",
    ]);
    assert!(!set.err.contains("note"), "{}", set.err);
    assert!(set.ok().contains("PSM"));
    let shown = place.run(&["device", "show", "m"]).ok();
    assert!(
        shown.contains("meter") && shown.contains("PSM, its own"),
        "{shown}"
    );
    place.run(&["device", "set", "m", "profile="]).ok();
    assert_eq!(
        place.run(&["device", "show", "m", "--json"]).json()["profile"],
        "default"
    );
    fails_with(
        place.run(&["profile", "remove", "default"]),
        "the default profile is always there",
    );
}

#[test]
fn a_profile_is_kept_in_the_data_directory() {
    let place = Place::new();
    place.write(
        "reading.proto",
        "syntax = \"proto3\"; message R { int64 n = 1; }",
    );
    let added = place.run(&[
        "profile",
        "add",
        "meter",
        "payloadType=PROTOBUF",
        "protoSchemas.telemetry=@reading.proto",
        "protoSchemas.attributes=@reading.proto",
        "rateLimits.messages=10:1",
        "provisioning.key=k",
        "provisioning.secret=s3cret",
    ]);
    added.ok();
    let listed = place.run(&["profile", "list"]).ok();
    assert!(
        listed.contains("meter") && listed.contains("payloadType=PROTOBUF"),
        "{listed}"
    );
    assert!(
        !place
            .run(&["profile", "list", "--json"])
            .ok()
            .contains("s3cret")
    );
    let shown = place.run(&["profile", "show", "meter"]).ok();
    assert!(
        shown.contains("s3cret") && shown.contains("int64 n"),
        "{shown}"
    );
    let set = place.run(&["profile", "set", "meter", "payloadType=", "protoSchemas="]);
    assert!(!set.ok().contains("PROTOBUF"));
    let refused = place.run(&["profile", "set", "meter", "rateLimits.messages=often"]);
    fails_with(refused, "COUNT:SECONDS");
    fails_with(
        place.run(&["profile", "set", "nobody", "description=x"]),
        "no profile named",
    );
    place.run(&["profile", "remove", "meter"]).ok();
    fails_with(place.run(&["profile", "show", "meter"]), "no profile named");
    // The default one needs no definition.
    place
        .run(&["profile", "set", "default", "powerSaving.mode=PSM"])
        .ok();
}

#[test]
fn a_device_has_settings_of_its_own() {
    let place = Place::new();
    place.run(&["device", "add", "d"]).ok();
    let set = place.run(&[
        "device",
        "set",
        "d",
        "powerSaving.mode=PSM",
        "powerSaving.psmActivityTimer=8000",
    ]);
    assert!(set.ok().contains("8000"));
    assert!(place.run(&["device", "set", "d"]).ok().contains("PSM"));
    fails_with(
        place.run(&["device", "set", "d", "firmware=1"]),
        "ota assign",
    );
    fails_with(
        place.run(&["device", "set", "x", "powerSaving.mode=PSM"]),
        "no device named",
    );
}

#[test]
fn packages_are_added_assigned_and_removed() {
    let place = Place::new();
    place.write("fw.bin", [1, 2, 3]);
    place.run(&["device", "add", "d"]).ok();
    let added = place.run(&[
        "ota",
        "add",
        "fw.bin",
        "--title",
        "T",
        "--version",
        "1",
        "--algorithm",
        "md5",
    ]);
    let added = added.ok();
    assert!(
        added.contains("MD5 5289df737df57326fcdd22597afb1fac"),
        "{added}"
    );
    let told = place
        .run(&["ota", "assign", "1", "--profile", "default"])
        .ok();
    assert_eq!(told, "1 device was told\n");
    fails_with(place.run(&["ota", "remove", "1"]), "is assigned");
    place.run(&["ota", "unassign", "--profile", "default"]).ok();
    place.run(&["ota", "remove", "1"]).ok();
    fails_with(
        place.run(&["ota", "assign", "1", "--device", "d"]),
        "no package 1",
    );
    fails_with(
        place.run(&["claim", "accept", "d", "--customer", "C"]),
        "running server",
    );
}
