//! Message layers that are used again.
//!
//! A device that is silent for longer than its last request is remembered has none; its next request
//! needs one. In a fleet of such devices every request does, while some other device's layer is given
//! up, so that the one can have the other's memory.

use crate::coap::MessageLayer;

/// Layers kept at most: a fifth of a mebibyte, with the memory that each keeps.
const SPARES_MAX: usize = 1024;

/// Layers of nobody, a bounded number of them.
#[derive(Debug, Default)]
pub(super) struct SpareLayers {
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    spares: Vec<Box<MessageLayer>>,
}

impl SpareLayers {
    /// `fresh` in a box, which is a spare one's if there is one.
    pub(super) fn take(&mut self, fresh: MessageLayer) -> Box<MessageLayer> {
        match self.spares.pop() {
            Some(mut layer) => {
                layer.renew(fresh);
                layer
            }
            None => Box::new(fresh),
        }
    }

    /// Keeps the memory of a layer that is idle, and nothing of what it knew, unless there is enough.
    pub(super) fn put(&mut self, mut layer: Box<MessageLayer>) {
        if self.spares.len() < SPARES_MAX {
            layer.clear();
            self.spares.push(layer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn boxes_are_used_again_and_no_more_than_enough_of_them_are_kept() {
        let mut spares = SpareLayers::default();
        let mut random = SeededRandom::new(1);
        let layer = spares.take(MessageLayer::new(&mut random));
        let place = std::ptr::from_ref(&*layer);
        spares.put(layer);
        let layer = spares.take(MessageLayer::new(&mut random));
        assert_eq!(std::ptr::from_ref(&*layer), place);
        for _ in 0..SPARES_MAX + 2 {
            spares.put(Box::new(MessageLayer::new(&mut random)));
        }
        assert_eq!(spares.spares.len(), SPARES_MAX);
    }
}
