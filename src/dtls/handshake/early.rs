//! Records of epoch 1 that came before they could be read.

use crate::dtls::record::CID_LEN_MAX;

/// Records kept.
const RECORDS_MAX: usize = 2;
/// Longest record kept: Finished with any suite and connection id.
pub(in crate::dtls) const EARLY_RECORD_MAX: usize = 128 + CID_LEN_MAX;

/// A few small records that overtook what comes before them: Finished, when datagrams are
/// reordered. More would only help a peer that can send again (RFC 6347 section 4.2.4).
#[derive(Debug, Default)]
pub(super) struct EarlyRecords(Vec<Vec<u8>>);

impl EarlyRecords {
    /// Keeps a copy; `false` when there is no room for it.
    pub(super) fn keep(&mut self, record: &[u8]) -> bool {
        let kept = record.len() <= EARLY_RECORD_MAX && self.0.len() < RECORDS_MAX;
        if kept {
            self.0.push(record.to_vec());
        }
        kept
    }

    /// Bytes that are kept.
    pub(super) fn memory(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// Takes all that were kept.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_small_records_are_kept() {
        let mut early = EarlyRecords::default();
        assert!(!early.keep(&[0; EARLY_RECORD_MAX + 1]));
        assert!(early.keep(&[1; EARLY_RECORD_MAX]) && early.keep(&[2]) && !early.keep(&[3]));
        assert_eq!(early.take(), [vec![1; EARLY_RECORD_MAX], vec![2]]);
        assert!(early.keep(&[4]));
    }
}
