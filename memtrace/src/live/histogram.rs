//! Outstanding allocations by size and by age: in classes, whose number is
//! fixed.
use super::{Item, add, whole};

/// One class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// The smallest size, or the least age in nanoseconds, in it.
    pub min: u64,
    /// The largest.
    pub max: u64,
    /// Outstanding bytes.
    pub bytes: u64,
    /// Outstanding blocks and mappings.
    pub count: u64,
}

const SECOND: u64 = 1_000_000_000;

/// Where a class of ages ends and the next begins.
const AGES: [u64; 10] = [
    SECOND / 100,
    SECOND / 10,
    SECOND,
    10 * SECOND,
    60 * SECOND,
    600 * SECOND,
    3_600 * SECOND,
    6 * 3_600 * SECOND,
    24 * 3_600 * SECOND,
    7 * 24 * 3_600 * SECOND,
];

/// Size classes: none, and one for each power of two.
const SIZES: usize = u64::BITS as usize + 1;

/// Bytes and, in units of `ONE`, counts.
type Sum = (u64, u64);

/// A histogram by age in the making: small enough that every site can have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages([Sum; AGES.len() + 1]);

impl Ages {
    pub(super) fn add(&mut self, item: &Item) {
        let age = AGES.partition_point(|limit| *limit <= item.age_ns);
        let sum = &mut self.0[age];
        add(&mut sum.0, item.weight.bytes);
        add(&mut sum.1, item.weight.count);
    }

    /// Adds another one.
    pub(super) fn add_all(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            add(&mut sum.0, more.0);
            add(&mut sum.1, more.1);
        }
    }

    /// From the first class to the last that anything is in.
    pub fn classes(&self) -> Vec<Class> {
        classes(&self.0, |index| {
            let min = index.checked_sub(1).map_or(0, |before| AGES[before]);
            (min, AGES.get(index).map_or(u64::MAX, |limit| limit - 1))
        })
    }
}

/// A histogram by size in the making.
#[derive(Debug)]
pub(super) struct Sizes([Sum; SIZES]);

impl Default for Sizes {
    fn default() -> Self {
        Self([(0, 0); SIZES])
    }
}

impl Sizes {
    pub(super) fn add(&mut self, item: &Item) {
        let size = item.size.checked_ilog2().map_or(0, |log| log as usize + 1);
        let sum = &mut self.0[size];
        add(&mut sum.0, item.weight.bytes);
        add(&mut sum.1, item.weight.count);
    }

    /// From the first class to the last that anything is in.
    pub(super) fn classes(&self) -> Vec<Class> {
        classes(&self.0, |index| match index.checked_sub(1) {
            None => (0, 0),
            Some(log) => (1 << log, (1 << log) - 1 + (1 << log)),
        })
    }
}

fn classes(sums: &[Sum], bounds: impl Fn(usize) -> (u64, u64)) -> Vec<Class> {
    let used = |sum: &Sum| *sum != (0, 0);
    let (Some(first), Some(last)) = (sums.iter().position(used), sums.iter().rposition(used))
    else {
        return Vec::new();
    };
    let class = |index: usize| {
        let (min, max) = bounds(index);
        let (bytes, count) = sums[index];
        Class {
            min,
            max,
            bytes,
            count: whole(count),
        }
    };
    (first..=last).map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::{ONE, Weight};

    fn item(size: u64, age_ns: u64) -> Item {
        let weight = Weight {
            bytes: size,
            count: ONE,
        };
        Item {
            site: 0,
            size,
            weight,
            age_ns,
        }
    }

    /// Classes by size and by age.
    fn classes_of(items: &[Item]) -> [Vec<Class>; 2] {
        let (mut sizes, mut ages) = (Sizes::default(), Ages::default());
        for item in items {
            sizes.add(item);
            // Each as if it were a site of its own.
            let mut site = Ages::default();
            site.add(item);
            ages.add_all(&site);
        }
        [sizes.classes(), ages.classes()]
    }

    #[test]
    fn every_size_and_age_has_its_class() {
        for value in [0, 1, 2, 3, 4, 255, 256, 1 << 63, u64::MAX] {
            for classes in classes_of(&[item(value, value)]) {
                let [class] = classes[..] else {
                    panic!("{value}: {classes:?}")
                };
                assert!((class.min..=class.max).contains(&value), "{class:?}");
                assert_eq!((class.bytes, class.count), (value, 1));
            }
        }
    }

    #[test]
    fn classes_are_contiguous() {
        assert_eq!(classes_of(&[]), [vec![], vec![]]);
        let large = || item(100, 100 * SECOND);
        for classes in classes_of(&[item(16, SECOND / 2), large(), large()]) {
            assert_eq!(classes.len(), 4 - usize::from(classes[0].min == 16));
            assert!(classes.windows(2).all(|two| two[0].max + 1 == two[1].min));
            let counts: Vec<u64> = classes.iter().map(|class| class.count).collect();
            assert_eq!((counts[0], counts.last()), (1, Some(&2)));
        }
    }
}
