//! Blocks by address, in as little memory as will do: there may be tens of
//! millions.
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable, hash_table::Entry};

use super::SiteId;

/// An outstanding block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) size: u64,
    pub(super) site: SiteId,
    /// When it was allocated, in ticks.
    pub(super) born: u32,
}

/// A block and its address in 20 bytes: 21 of a hash table that is at worst
/// 7/16 full, so 48 a block at most, and 24 at best.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Packed {
    /// The low 32 bits.
    address: u32,
    size: u32,
    /// Bits 32 to 47 of the address, and above them those of the size.
    high: u32,
    site: SiteId,
    born: u32,
}

/// Addresses and sizes of more bits are kept apart: no process has such
/// addresses unless it asks for them (five-level page tables).
const LIMIT: u64 = 1 << 48;

impl Packed {
    fn new(address: u64, block: Block) -> Option<Self> {
        if address >= LIMIT || block.size >= LIMIT {
            return None;
        }
        let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        Some(Self {
            address: low(address),
            size: low(block.size),
            high: low(address >> 32) | low(block.size >> 32) << 16,
            site: block.site,
            born: block.born,
        })
    }

    fn address(&self) -> u64 {
        u64::from(self.high & 0xffff) << 32 | u64::from(self.address)
    }

    fn block(&self) -> Block {
        Block {
            size: u64::from(self.high >> 16) << 32 | u64::from(self.size),
            site: self.site,
            born: self.born,
        }
    }
}

/// Blocks by address.
#[derive(Debug, Default)]
pub(super) struct Table {
    packed: HashTable<Packed>,
    wide: HashMap<u64, Block>,
    hasher: DefaultHashBuilder,
}

impl Table {
    /// Puts a block in; returns what was at its address before.
    pub(super) fn insert(&mut self, address: u64, block: Block) -> Option<Block> {
        let Some(new) = Packed::new(address, block) else {
            let before = self.remove(address);
            self.wide.insert(address, block);
            return before;
        };
        let hasher = &self.hasher;
        let hash = |packed: &Packed| hasher.hash_one(packed.address());
        let entry = self.packed.entry(
            hasher.hash_one(address),
            |packed| packed.address() == address,
            hash,
        );
        match entry {
            Entry::Occupied(mut place) => {
                let before = place.get().block();
                *place.get_mut() = new;
                Some(before)
            }
            Entry::Vacant(place) => {
                place.insert(new);
                self.wide.remove(&address)
            }
        }
    }

    /// Takes the block at `address` out.
    pub(super) fn remove(&mut self, address: u64) -> Option<Block> {
        let hash = self.hasher.hash_one(address);
        match self
            .packed
            .find_entry(hash, |packed| packed.address() == address)
        {
            Ok(place) => Some(place.remove().0.block()),
            Err(_) if self.wide.is_empty() => None,
            Err(_) => self.wide.remove(&address),
        }
    }

    /// The block at `address`.
    pub(super) fn get(&self, address: u64) -> Option<Block> {
        let hash = self.hasher.hash_one(address);
        let packed = self.packed.find(hash, |packed| packed.address() == address);
        packed
            .map(Packed::block)
            .or_else(|| self.wide.get(&address).copied())
    }

    /// Whether there is one.
    pub(super) fn contains(&self, address: u64) -> bool {
        self.get(address).is_some()
    }

    /// All blocks.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block> {
        let packed = self.packed.iter().map(Packed::block);
        packed.chain(self.wide.values().copied())
    }

    /// Bytes of memory that it takes.
    #[cfg(test)]
    fn allocated(&self) -> usize {
        self.packed.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Block = Block {
        size: 0x1234_5678_9abc,
        site: u32::MAX,
        born: 77,
    };

    #[test]
    fn blocks_come_back_as_they_were() {
        let mut table = Table::default();
        for address in [0x10, 0x7fff_ffff_fff8, LIMIT - 8, LIMIT, u64::MAX - 7] {
            for size in [0, 1, LIMIT - 1, LIMIT, u64::MAX] {
                let block = Block { size, ..BLOCK };
                assert_eq!(table.insert(address, BLOCK), None);
                assert_eq!(table.insert(address, block), Some(BLOCK));
                assert!(table.contains(address));
                assert_eq!(table.blocks().collect::<Vec<_>>(), [block]);
                assert_eq!(table.remove(address), Some(block));
                assert_eq!(table.remove(address), None);
            }
        }
    }

    #[test]
    fn a_block_takes_48_bytes_at_most() {
        let mut table = Table::default();
        for index in 0_u32..3_000_000 {
            table.insert(u64::from(index) * 16, BLOCK);
            if index >= 1_000_000 && index % 1000 == 0 {
                assert!(
                    table.allocated() <= (index as usize + 1) * 48 + 4096,
                    "{index}"
                );
            }
        }
    }
}
