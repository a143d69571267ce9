//! The topic dictionary and the topics of sealed segments, as the metadata has them; see
//! [`crate::topics`].
//!
//! Invariants: a name, and the number that the next one gets, are durable before a set that uses them
//! is written; what cannot be read is as if it were not there, but its number stays taken.

use std::collections::{BTreeMap, BTreeSet};

use super::{Metadata, MetadataError, SegmentRecord, put, put_together, remove, values};
use crate::encoding::Stored;
use crate::ids::SegmentId;
use crate::topics::{
    Run, RunsOfSegment, SegmentIdentity, TopicDictionary, TopicNumber, TopicSet, TopicsOfSegment,
};

/// The key of the number that the next name gets; no name has it.
const NEXT: TopicNumber = TopicNumber(0);

/// The trees.
#[derive(Debug)]
pub(super) struct TopicTrees {
    names: sled::Tree,
    segments: sled::Tree,
    runs: sled::Tree,
}

impl TopicTrees {
    pub(super) fn open(database: &sled::Db) -> Result<Self, MetadataError> {
        Ok(Self {
            names: database.open_tree("topics")?,
            segments: database.open_tree("segment_topics")?,
            runs: database.open_tree("run_topics")?,
        })
    }

    /// Reads everything once: sled panics at pages that it cannot read.
    pub(super) fn read_through(&self) -> Result<(), MetadataError> {
        for tree in [&self.names, &self.segments, &self.runs] {
            for entry in tree.iter() {
                entry?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_segment(&self, key: &[u8]) -> Result<(), MetadataError> {
        remove(&self.segments, key)?;
        remove(&self.runs, key)
    }
}

impl Metadata {
    /// The dictionary as it is stored.
    pub(crate) fn topics(&self) -> Result<TopicDictionary, MetadataError> {
        let mut names = Vec::new();
        let mut next = TopicNumber(1);
        for value in values(&self.topics.names) {
            let (key, value) = value?;
            let number = key.as_slice().try_into().map_or(0, u32::from_be_bytes);
            let number = TopicNumber(number);
            next = next.max(TopicNumber(number.0.saturating_add(1)));
            match value {
                Some(value) if number == NEXT => {
                    let stored = value.as_slice().try_into().map_or(0, u32::from_be_bytes);
                    next = next.max(TopicNumber(stored));
                }
                Some(name) => names.push((number, name)),
                None => {}
            }
        }
        Ok(TopicDictionary::of_names(names, next))
    }

    /// Stores names, and the number that the next one gets.
    pub(crate) fn put_topics(
        &self,
        names: &[(TopicNumber, impl AsRef<[u8]>)],
        next: TopicNumber,
    ) -> Result<(), MetadataError> {
        let tree = &self.topics.names;
        put(tree, &NEXT.0.to_be_bytes(), &next.0.to_be_bytes())?;
        for (number, name) in names {
            put(tree, &number.0.to_be_bytes(), name.as_ref())?;
        }
        Ok(())
    }

    pub(crate) fn remove_topics(&self, numbers: &[TopicNumber]) -> Result<(), MetadataError> {
        let mut numbers = numbers.iter();
        numbers.try_for_each(|number| remove(&self.topics.names, &number.0.to_be_bytes()))
    }

    /// Stores the topics of a segment with this record.
    pub(crate) fn put_topics_of(
        &self,
        id: SegmentId,
        record: &SegmentRecord,
        runs: Vec<Run>,
    ) -> Result<(), MetadataError> {
        let (topics, runs) = TopicsOfSegment::of_runs(SegmentIdentity::of(id, record), runs);
        let key = id.0.to_be_bytes();
        put(&self.topics.segments, &key, &topics.to_stored())?;
        put(&self.topics.runs, &key, &runs.to_stored())
    }

    /// The topics of a segment with this record; `None` if they are not known.
    pub(crate) fn topics_of(
        &self,
        id: SegmentId,
        record: &SegmentRecord,
    ) -> Result<Option<TopicSet>, MetadataError> {
        let stored: Option<TopicsOfSegment> = get(&self.topics.segments, id)?;
        let stored = stored.filter(|stored| stored.identity == SegmentIdentity::of(id, record));
        Ok(stored.and_then(|stored| stored.set()))
    }

    /// As [`Self::topics_of`], of its runs.
    pub(crate) fn runs_of(
        &self,
        id: SegmentId,
        record: &SegmentRecord,
    ) -> Result<Option<RunsOfSegment>, MetadataError> {
        let stored: Option<RunsOfSegment> = get(&self.topics.runs, id)?;
        Ok(stored.filter(|stored| stored.identity == SegmentIdentity::of(id, record)))
    }

    #[cfg(test)]
    pub(crate) fn remove_topics_of(&self, id: SegmentId) -> Result<(), MetadataError> {
        self.topics.remove_segment(&id.0.to_be_bytes())
    }

    #[cfg(test)]
    pub(crate) fn remove_runs_of(&self, id: SegmentId) -> Result<(), MetadataError> {
        remove(&self.topics.runs, &id.0.to_be_bytes())
    }

    /// Removes what is stored of segments that are not in the index.
    pub(crate) fn keep_topics_of(
        &self,
        index: &BTreeMap<SegmentId, SegmentRecord>,
    ) -> Result<(), MetadataError> {
        for tree in [&self.topics.segments, &self.topics.runs] {
            for key in tree.iter().keys() {
                let key = key?;
                let id = key.first_chunk::<8>().map(|id| u64::from_be_bytes(*id));
                if id.is_none_or(|id| !index.contains_key(&SegmentId(id))) {
                    tree.remove(key)?;
                }
            }
        }
        Ok(())
    }

    /// The numbers that any stored set names.
    pub(crate) fn named_topics(&self) -> Result<BTreeSet<TopicNumber>, MetadataError> {
        let mut named = BTreeSet::new();
        for value in values(&self.topics.segments) {
            let stored = value?
                .1
                .and_then(|stored| TopicsOfSegment::from_stored(&stored).ok());
            let set = stored.and_then(|stored| stored.set());
            named.extend(set.into_iter().flat_map(|set| set.numbers));
        }
        Ok(named)
    }
}

/// The value of a segment; `None` if there is none, or none that can be read.
fn get<T: Stored>(tree: &sled::Tree, id: SegmentId) -> Result<Option<T>, MetadataError> {
    let found = put_together(tree.scan_prefix(id.0.to_be_bytes())).next();
    let value = found.transpose()?.and_then(|(_, value)| value);
    Ok(value.and_then(|value| T::from_stored(&value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Purpose, create};

    #[test]
    fn number_is_not_given_again_when_its_name_is_gone_or_torn() {
        let parent = tempfile::tempdir().unwrap();
        let database = create(&parent.path().join("meta"), Purpose::Metadata).unwrap();
        let metadata = Metadata::new(database).unwrap();
        let next = || metadata.topics().unwrap().next();
        assert_eq!(next(), TopicNumber(1));
        let names = [
            (TopicNumber(1), b"a".to_vec()),
            (TopicNumber(2), vec![b'b'; 10_000]),
        ];
        metadata.put_topics(&names, TopicNumber(3)).unwrap();
        // Its second piece.
        let piece = [2_u32.to_be_bytes().as_slice(), &[0, 1]].concat();
        metadata.topics.names.remove(piece).unwrap();
        metadata.remove_topics(&[NEXT]).unwrap();
        assert_eq!(
            next(),
            TopicNumber(3),
            "torn, and the number of the next one is gone"
        );
        metadata.put_topics(&names, TopicNumber(3)).unwrap();
        metadata.remove_topics(&[TopicNumber(2)]).unwrap();
        assert_eq!(next(), TopicNumber(3), "forgotten");
    }
}
