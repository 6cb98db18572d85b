//! Changes to the inputs of a corpus.

use tidegate::random::{Random, SeededRandom};

/// Longest input that is made.
const LENGTH_MAX: usize = 16_384;

/// One of `files`, changed in one to four places.
pub(crate) fn mutate(files: &[(String, Vec<u8>)], random: &mut SeededRandom) -> Vec<u8> {
    let mut input = pick(files, random).to_vec();
    for _ in 0..=random.below(4) {
        change(&mut input, files, random);
    }
    input.truncate(LENGTH_MAX);
    input
}

fn pick<'a>(files: &'a [(String, Vec<u8>)], random: &mut SeededRandom) -> &'a [u8] {
    &files[random.below(files.len() as u64) as usize].1
}

/// A place in `input`, its end included.
fn place(input: &[u8], random: &mut SeededRandom) -> usize {
    random.below(input.len() as u64 + 1) as usize
}

fn change(input: &mut Vec<u8>, files: &[(String, Vec<u8>)], random: &mut SeededRandom) {
    let at = place(input, random);
    let length = random.below(16) as usize;
    match random.below(8) {
        // One bit, one byte, or a byte that lengths and kinds like to be.
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.next_u64() as u8;
            }
        }
        2 => {
            const EDGES: [u8; 12] = [0, 1, 2, 13, 14, 15, 16, 0x3f, 0x7f, 0x80, 0xfe, 0xff];
            if let Some(byte) = input.get_mut(at) {
                *byte = EDGES[random.below(12) as usize];
            }
        }
        // A length that is a little off.
        3 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = byte.wrapping_add(random.below(9) as u8).wrapping_sub(4);
            }
        }
        4 => {
            let end = (at + length).min(input.len());
            input.drain(at..end);
        }
        5 => {
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            input.splice(at..at, bytes);
        }
        6 => {
            let end = (at + 8 * length).min(input.len());
            let copy = input[at..end].to_vec();
            let to = place(input, random);
            input.splice(to..to, copy);
        }
        // A part of another input.
        _ => {
            let other = pick(files, random);
            let from = place(other, random);
            let end = (from + 8 * length).min(other.len());
            input.splice(at..at, other[from..end].iter().copied());
        }
    }
}
