//! One timer per slot number, for millions of slots: a hierarchical wheel with ticks of 1 ms.
//!
//! ```text
//! level 0   64 buckets of 1 tick          the 64 ticks around `elapsed`
//! level 1   64 buckets of 64 ticks        the 4096 around it, and so on: 8 levels, 2^48 ticks
//! bucket    doubly linked list through `entries`, indexed by slot: 12 bytes a slot
//! ```
//!
//! A deadline sits on the level of the highest base-64 digit in which it differs from `elapsed`.
//! So all buckets in use lie ahead of `elapsed` on their level, a lower level is due before a higher
//! one, and the next bucket is the lowest bit of the first bitmap that is not zero. When `elapsed`
//! reaches a bucket of a higher level its entries move down, a few in each step, as it may hold the
//! timers of a whole fleet; each moves at most seven times.
//!
//! A timer never fires early by the clock that [`TimerWheel::pop_expired`] is told, but for one
//! case: a deadline 2^32 ms (49 days) or more after the last expiry is brought forward to that.
//! Owners therefore look at their own deadline when a timer fires, and schedule again.

use crate::time::Instant;

const LEVELS: usize = 8;
const BUCKETS: usize = 64;
const DIGIT_BITS: u32 = 6;
/// The list of timers that are due, after the buckets of all levels.
const DUE: usize = LEVELS * BUCKETS;
/// No entry; therefore never a slot.
const NONE: u32 = u32::MAX;
/// In `Entry::previous`: the rest is the index of the bucket that this entry heads.
const HEAD: u32 = 1 << 31;
/// Slots are below this: the top bit marks list heads.
pub const SLOTS_MAX: u32 = HEAD;
const TICK_US: u64 = 1000;
/// Timers that one step moves.
const MOVES_PER_STEP: usize = 16;

/// Timers by slot number, at most one each.
#[derive(Debug)]
pub struct TimerWheel {
    entries: Vec<Entry>,
    heads: [u32; DUE + 1],
    /// A bit per bucket that is not empty.
    occupied: [u64; LEVELS],
    /// All ticks up to this one were expired.
    elapsed: u64,
    /// The bucket that begins at `elapsed` and is not emptied yet.
    emptying: Option<usize>,
    len: u32,
}

/// What a step of [`TimerWheel::step`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The timer of this slot fired.
    Fired(u32),
    /// Timers were moved, and there is more to do.
    Moved,
    /// Nothing is due.
    Idle,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    next: u32,
    /// The entry before this one, or `HEAD | bucket`, or `NONE` when no timer runs.
    previous: u32,
    /// The low half of the tick; the whole is the first such tick not before `elapsed`.
    tick: u32,
}

const IDLE: Entry = Entry {
    next: NONE,
    previous: NONE,
    tick: 0,
};

impl TimerWheel {
    /// A wheel whose time starts at `now`.
    pub const fn new(now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            heads: [NONE; DUE + 1],
            occupied: [0; LEVELS],
            elapsed: now.as_micros() / TICK_US,
            emptying: None,
            len: 0,
        }
    }

    /// Timers that run.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no timer runs.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Starts the slot's timer, in place of the one that it may have: it fires once, at `at` or up
    /// to a tick later. A deadline in the past is due at once.
    ///
    /// # Panics
    ///
    /// When `slot` is not below [`SLOTS_MAX`].
    pub fn schedule(&mut self, slot: u32, at: Instant) {
        assert!(slot < SLOTS_MAX, "slot number out of range");
        let index = slot as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, IDLE);
        }
        let furthest = self.elapsed.saturating_add(u64::from(u32::MAX));
        let tick = at.as_micros().div_ceil(TICK_US).min(furthest);
        if self.entries[index].previous == NONE {
            self.len += 1;
        } else {
            self.unlink(slot);
        }
        self.entries[index].tick = low_half(tick);
        self.link(slot, self.bucket_of(tick));
    }

    /// Stops the slot's timer, if one runs.
    pub fn cancel(&mut self, slot: u32) {
        if self.is_scheduled(slot) {
            self.unlink(slot);
            self.len -= 1;
        }
    }

    /// Whether the slot has a timer.
    pub fn is_scheduled(&self, slot: u32) -> bool {
        self.entries
            .get(slot as usize)
            .is_some_and(|entry| entry.previous != NONE)
    }

    /// Looks at the memory of the slot's timer; what comes out means nothing.
    pub fn touch(&self, slot: u32) -> u64 {
        let entry = self.entries.get(slot as usize);
        entry.map_or(0, |entry| entry.tick.into())
    }

    /// Looks at the timers beside it in its list, which change when it is moved.
    pub fn touch_neighbours(&self, slot: u32) -> u64 {
        let entry = self.entries.get(slot as usize).unwrap_or(&IDLE);
        self.touch(entry.next) ^ self.touch(entry.previous)
    }

    /// When to call [`Self::pop_expired`] next: not after the earliest deadline, but perhaps before
    /// it (the start of its bucket). At most seven such calls find nothing before a timer fires.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.heads[DUE] != NONE || self.emptying.is_some() {
            return Some(from_tick(self.elapsed));
        }
        self.next_bucket().map(|(_, start)| from_tick(start))
    }

    /// Takes one timer that is due at `now`; call until `None`. `now` that runs backwards is taken
    /// as the latest that was seen.
    pub fn pop_expired(&mut self, now: Instant) -> Option<u32> {
        loop {
            match self.step(now) {
                Step::Fired(slot) => return Some(slot),
                Step::Moved => {}
                Step::Idle => return None,
            }
        }
    }

    /// The same in steps that are short, however many timers there are; call until [`Step::Idle`].
    pub fn step(&mut self, now: Instant) -> Step {
        let now = (now.as_micros() / TICK_US).max(self.elapsed);
        let slot = self.heads[DUE];
        if slot != NONE {
            self.unlink(slot);
            self.len -= 1;
            return Step::Fired(slot);
        }
        if let Some(bucket) = self.emptying {
            self.empty_bucket(bucket);
            return Step::Moved;
        }
        match self.next_bucket() {
            Some((bucket, start)) if start <= now => {
                self.elapsed = start;
                self.empty_bucket(bucket);
                Step::Moved
            }
            _ => {
                self.elapsed = now;
                Step::Idle
            }
        }
    }

    /// Calls `expired` for every timer that is due at `now`.
    pub fn expire(&mut self, now: Instant, expired: &mut impl FnMut(u32)) {
        while let Some(slot) = self.pop_expired(now) {
            expired(slot);
        }
    }

    /// The first bucket in time and the tick at which it begins.
    fn next_bucket(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let digit = self.occupied[level].trailing_zeros();
        let shift = level_shift(level);
        let above = self.elapsed >> (shift + DIGIT_BITS) << DIGIT_BITS;
        let start = (above | u64::from(digit)) << shift;
        Some((level * BUCKETS + digit as usize, start))
    }

    /// Where a tick belongs as seen from `elapsed`.
    fn bucket_of(&self, tick: u64) -> usize {
        if tick <= self.elapsed {
            return DUE;
        }
        let highest_bit = (tick ^ self.elapsed).ilog2();
        let level = (highest_bit / DIGIT_BITS) as usize;
        assert!(level < LEVELS, "time is beyond the wheel");
        level * BUCKETS + digit(tick, level)
    }

    /// Moves entries of a bucket that begins at `elapsed` to where they belong now. No other can come
    /// into it meanwhile: on its level, it differs from `elapsed` in nothing.
    fn empty_bucket(&mut self, bucket: usize) {
        for _ in 0..MOVES_PER_STEP {
            let slot = self.heads[bucket];
            if slot == NONE {
                break;
            }
            self.unlink(slot);
            let ahead = self.entries[slot as usize]
                .tick
                .wrapping_sub(low_half(self.elapsed));
            self.link(slot, self.bucket_of(self.elapsed + u64::from(ahead)));
        }
        self.emptying = (self.heads[bucket] != NONE).then_some(bucket);
    }

    fn link(&mut self, slot: u32, bucket: usize) {
        let next = self.heads[bucket];
        if next != NONE {
            self.entries[next as usize].previous = slot;
        }
        let entry = &mut self.entries[slot as usize];
        entry.next = next;
        entry.previous = HEAD | bucket_number(bucket);
        self.heads[bucket] = slot;
        if let Some(bits) = self.occupied.get_mut(bucket / BUCKETS) {
            *bits |= 1 << (bucket % BUCKETS);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { next, previous, .. } = self.entries[slot as usize];
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous & HEAD == 0 {
            self.entries[previous as usize].next = next;
        } else {
            let bucket = (previous & !HEAD) as usize;
            self.heads[bucket] = next;
            if next == NONE
                && let Some(bits) = self.occupied.get_mut(bucket / BUCKETS)
            {
                *bits &= !(1 << (bucket % BUCKETS));
            }
        }
        let entry = &mut self.entries[slot as usize];
        entry.next = NONE;
        entry.previous = NONE;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below LEVELS")]
const fn level_shift(level: usize) -> u32 {
    level as u32 * DIGIT_BITS
}

#[expect(clippy::cast_possible_truncation, reason = "reduced to a digit")]
const fn digit(tick: u64, level: usize) -> usize {
    (tick >> level_shift(level)) as usize % BUCKETS
}

const fn low_half(tick: u64) -> u32 {
    (tick & 0xffff_ffff) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "at most DUE")]
const fn bucket_number(bucket: usize) -> u32 {
    bucket as u32
}

const fn from_tick(tick: u64) -> Instant {
    Instant::from_micros(tick.saturating_mul(TICK_US))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    fn expired(wheel: &mut TimerWheel, now: Instant) -> Vec<u32> {
        let mut slots = Vec::new();
        wheel.expire(now, &mut |slot| slots.push(slot));
        slots.sort_unstable();
        slots
    }

    #[test]
    fn fires_once_and_never_early() {
        let mut wheel = TimerWheel::new(ms(5));
        wheel.schedule(3, Instant::from_micros(7_001));
        assert_eq!(wheel.pop_expired(Instant::from_micros(7_999)), None);
        assert_eq!(wheel.next_timeout(), Some(ms(8)));
        assert_eq!(wheel.pop_expired(ms(8)), Some(3));
        assert_eq!(wheel.pop_expired(ms(8)), None);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_timeout(), None);
    }

    #[test]
    fn a_new_deadline_replaces_the_old_and_cancel_ends_it() {
        let mut wheel = TimerWheel::new(ms(0));
        wheel.schedule(0, ms(10));
        wheel.schedule(0, ms(100_000));
        wheel.schedule(1, ms(10));
        wheel.schedule(2, ms(10));
        wheel.cancel(1);
        wheel.cancel(1);
        wheel.cancel(99);
        assert_eq!(wheel.len(), 2);
        assert_eq!(expired(&mut wheel, ms(99_999)), [2]);
        assert_eq!(expired(&mut wheel, ms(100_000)), [0]);
    }

    #[test]
    fn a_deadline_of_the_past_is_due_at_once_even_if_time_runs_back() {
        let mut wheel = TimerWheel::new(ms(1000));
        wheel.schedule(7, ms(1));
        assert_eq!(wheel.next_timeout(), Some(ms(1000)));
        assert_eq!(wheel.pop_expired(ms(3)), Some(7));
    }

    #[test]
    fn days_ahead_and_beyond_the_32_bit_boundary() {
        // Starts shortly before a carry through all low digits.
        let start = (1u64 << 36) - 3;
        let mut wheel = TimerWheel::new(ms(start));
        let day = 86_400_000;
        for (slot, after) in [1, 3, 64, 4096, day, 30 * day, 49 * day]
            .into_iter()
            .enumerate()
        {
            wheel.schedule(u32::try_from(slot).unwrap(), ms(start + after));
        }
        for (slot, after) in [1, 3, 64, 4096, day, 30 * day, 49 * day]
            .into_iter()
            .enumerate()
        {
            assert_eq!(wheel.pop_expired(ms(start + after - 1)), None);
            let slot = u32::try_from(slot).unwrap();
            assert_eq!(wheel.pop_expired(ms(start + after)), Some(slot));
        }
    }

    #[test]
    fn a_deadline_out_of_range_comes_early_and_never_late() {
        let mut wheel = TimerWheel::new(ms(0));
        wheel.schedule(0, Instant::from_micros(u64::MAX));
        assert_eq!(wheel.pop_expired(ms((1 << 32) - 2)), None);
        assert_eq!(wheel.pop_expired(ms((1 << 32) - 1)), Some(0));
    }

    #[test]
    fn wakes_that_find_nothing_are_few() {
        for after in [1, 77, 5_000, 86_400_000, 4_000_000_000] {
            let mut wheel = TimerWheel::new(ms(12_345));
            wheel.schedule(0, ms(12_345 + after));
            let mut wakes = 0;
            while wheel.pop_expired(wheel.next_timeout().unwrap()).is_none() {
                wakes += 1;
            }
            assert!(wakes <= 7, "{wakes} wakes for {after} ms");
        }
    }

    /// Moving the timers of a fleet to a lower level takes many steps, and what is scheduled, stopped
    /// and asked in between is right.
    #[test]
    fn a_step_moves_few_timers() {
        let mut wheel = TimerWheel::new(ms(0));
        let slots = 10_000;
        for slot in 0..slots {
            wheel.schedule(slot, ms(70_000 + u64::from(slot % 50)));
        }
        let mut steps = 0;
        let mut fired = Vec::new();
        loop {
            match wheel.step(ms(70_020)) {
                Step::Fired(slot) => fired.push(slot),
                Step::Moved => {
                    assert!(wheel.next_timeout().unwrap() <= ms(70_021));
                    let slot = slots + steps;
                    wheel.schedule(slot, ms(70_010));
                    wheel.schedule(steps % 20 + 30, ms(80_000));
                    wheel.cancel(49);
                    steps += 1;
                }
                Step::Idle => break,
            }
        }
        assert!(steps >= slots / 16, "{steps}");
        fired.sort_unstable();
        let due = |slot: &u32| slot % 50 <= 20;
        let expected: Vec<u32> = (0..slots).filter(due).chain(slots..slots + steps).collect();
        assert_eq!(fired, expected);
        let later = wheel.len();
        assert_eq!(expired(&mut wheel, ms(70_049)).len(), later as usize - 19);
        assert_eq!(expired(&mut wheel, ms(80_000)).len(), 19);
    }

    #[test]
    fn a_slot_costs_twelve_bytes() {
        assert_eq!(size_of::<Entry>(), 12);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Schedule(u32, u64),
        Cancel(u32),
        Advance(u64),
        AdvanceToNext,
    }

    /// Microseconds on every scale from the tick to weeks.
    fn distance() -> impl Strategy<Value = u64> {
        (0u32..42, any::<u64>()).prop_map(|(bits, value)| value & ((1 << bits) - 1))
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            4 => (0u32..40, distance()).prop_map(|(slot, after)| Operation::Schedule(slot, after)),
            1 => (0u32..40).prop_map(Operation::Cancel),
            2 => distance().prop_map(Operation::Advance),
            2 => Just(Operation::AdvanceToNext),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn agrees_with_an_ordered_map(
            start in 0u64..1 << 50,
            operations in prop::collection::vec(operation(), 0..300),
        ) {
            let mut now = Instant::from_micros(start);
            let mut wheel = TimerWheel::new(now);
            let mut oracle = BTreeMap::new();
            for operation in operations {
                match operation {
                    Operation::Schedule(slot, after) => {
                        let at = now + Duration::from_micros(after);
                        wheel.schedule(slot, at);
                        oracle.insert(slot, at.as_micros().div_ceil(1000));
                    }
                    Operation::Cancel(slot) => {
                        wheel.cancel(slot);
                        oracle.remove(&slot);
                    }
                    Operation::Advance(by) => now = now + Duration::from_micros(by),
                    Operation::AdvanceToNext => {
                        if let Some(at) = wheel.next_timeout() {
                            now = now.max(at);
                        }
                    }
                }
                if !matches!(operation, Operation::Schedule(..) | Operation::Cancel(_)) {
                    let due: Vec<u32> = oracle
                        .iter()
                        .filter(|&(_, &tick)| tick * 1000 <= now.as_micros())
                        .map(|(&slot, _)| slot)
                        .collect();
                    oracle.retain(|slot, _| !due.contains(slot));
                    prop_assert_eq!(expired(&mut wheel, now), due);
                }
                prop_assert_eq!(wheel.len() as usize, oracle.len());
                prop_assert!((0..40).all(|slot| wheel.is_scheduled(slot) == oracle.contains_key(&slot)));
                let earliest = oracle.values().min().map(|tick| tick * 1000);
                match (wheel.next_timeout(), earliest) {
                    (None, None) => {}
                    (Some(wake), Some(earliest)) => prop_assert!(
                        wake.as_micros() <= earliest.max(now.as_micros())
                    ),
                    (wake, earliest) => prop_assert!(false, "{wake:?} against {earliest:?}"),
                }
            }
        }
    }
}
