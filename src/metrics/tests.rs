use super::*;
use std::collections::BTreeSet;

fn shards() -> Vec<Arc<ShardMetrics>> {
    (0..2).map(|_| Arc::new(ShardMetrics::new())).collect()
}

fn page(shards: &[Arc<ShardMetrics>]) -> String {
    let mut encoder = Encoder::new();
    encode(&mut encoder, shards);
    encoder.finish()
}

#[test]
fn every_counter_is_exported_once() {
    let members: Vec<_> = FAMILIES.iter().flat_map(|family| family.members).collect();
    assert_eq!(members.len(), Counter::ALL.len());
    let indices: BTreeSet<_> = members
        .iter()
        .map(|(counter, _)| *counter as usize)
        .collect();
    assert_eq!(indices, (0..Counter::ALL.len()).collect());
    let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
    for family in FAMILIES {
        let ends = family.name.ends_with("_total");
        assert_eq!(ends, family.kind == Kind::Counter, "{}", family.name);
        assert!(family.name.starts_with("tidegate_"));
        let labels: BTreeSet<_> = family.members.iter().map(|(_, labels)| labels).collect();
        assert_eq!(labels.len(), family.members.len(), "{}", family.name);
    }
}

#[test]
fn shards_are_summed_or_told_apart() {
    let shards = shards();
    shards[0].increment(Counter::RequestsCoaps);
    shards[1].add(Counter::RequestsCoaps, 4);
    shards[1].set(Counter::Sessions, 9);
    shards[1].count_drop(DropReason::RecordForged);
    shards[0].increment(Counter::DatagramsReceivedCoap);
    let page = page(&shards);
    for line in [
        "# TYPE tidegate_requests_total counter",
        "tidegate_requests_total{port=\"coaps\"} 5",
        "# TYPE tidegate_sessions gauge",
        "tidegate_sessions{shard=\"0\"} 0",
        "tidegate_sessions{shard=\"1\"} 9",
        "tidegate_datagrams_received_total{port=\"coap\",shard=\"0\"} 1",
        "tidegate_drops_total{reason=\"record_forged\"} 1",
        "tidegate_drops_total{reason=\"record_replayed\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

/// The text format, read by its rules: every sample follows the `# TYPE` of its family, none is
/// there twice, and histograms are cumulative.
#[test]
fn the_page_is_well_formed() {
    let shards = shards();
    shards[0].record(Latency::Request, Duration::from_micros(3));
    shards[1].record(Latency::Request, Duration::from_secs(100));
    let page = page(&shards);
    assert!(page.ends_with('\n'));
    let (mut family, mut samples) = (String::new(), BTreeSet::new());
    let mut cumulative = 0;
    for line in page.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            family = declared.split(' ').next().unwrap().to_owned();
            cumulative = 0;
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(sample.starts_with(&family), "{line} in {family}");
        assert!(samples.insert(sample.to_owned()), "{line} twice");
        if sample.contains("_bucket") {
            let count: u64 = value.parse().unwrap();
            assert!(count >= cumulative, "{line}");
            cumulative = count;
        }
    }
    for line in [
        "tidegate_request_seconds_bucket{le=\"0.000002\"} 0",
        "tidegate_request_seconds_bucket{le=\"0.000004\"} 1",
        "tidegate_request_seconds_bucket{le=\"67.108864\"} 1",
        "tidegate_request_seconds_bucket{le=\"+Inf\"} 2",
        "tidegate_request_seconds_sum 100.000003",
        "tidegate_request_seconds_count 2",
        "tidegate_handshake_seconds_count 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

#[test]
fn two_shards_share_no_cache_line() {
    assert_eq!(align_of::<ShardMetrics>(), 128);
    assert_eq!(size_of::<ShardMetrics>() % 128, 0);
}
