//! The known name that a mistyped one was probably meant to be.

/// The candidate with the fewest edits (characters added, removed or replaced) to `name`; `None`
/// when even that one is too far to be a slip: more than a third of the name.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().div_ceil(3);
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, case ignored. Names longer than 200 characters count as far from all.
fn edits(a: &str, b: &str) -> usize {
    const LENGTH_MAX: usize = 200;
    let fold = |text: &str| -> Vec<char> {
        text.chars()
            .take(LENGTH_MAX + 1)
            .map(|c| c.to_ascii_uppercase())
            .collect()
    };
    let (a, b) = (fold(a), fold(b));
    if a.len() > LENGTH_MAX || b.len() > LENGTH_MAX {
        return usize::MAX;
    }
    // `row[j]`: edits between the part of `a` read so far and the first `j` characters of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, distance) in [
            ("", "", 0),
            ("abc", "ABC", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("COAP_BIND_PROT", "COAP_BIND_PORT", 2),
        ] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
            assert_eq!(edits(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn far_names_are_not_proposed() {
        let known = ["COAP_BIND_PORT", "COAP_TIMEOUT"];
        let find = |name| nearest(name, known.iter().copied());
        assert_eq!(find("COAP_BIND_PROT"), Some("COAP_BIND_PORT"));
        assert_eq!(find("COAP_TIMEOUTS"), Some("COAP_TIMEOUT"));
        assert_eq!(find("COAP_SOMETHING_ELSE_ALTOGETHER"), None);
        assert_eq!(find(&"x".repeat(5000)), None);
    }
}
