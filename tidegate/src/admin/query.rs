//! What follows the `?` of a request: names and values, without escapes, since nothing that is asked
//! for needs any.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Fields that were not asked for yet.
#[derive(Debug)]
pub(super) struct Query<'a> {
    fields: BTreeMap<&'a str, &'a str>,
}

impl<'a> Query<'a> {
    pub(super) fn parse(query: &'a str) -> Result<Self, String> {
        let mut fields = BTreeMap::new();
        for field in query.split('&').filter(|field| !field.is_empty()) {
            let (name, value) = field
                .split_once('=')
                .ok_or_else(|| format!("`{field}` has no value"))?;
            fields.insert(name, value);
        }
        Ok(Self { fields })
    }

    /// The value of `name`, as it stands.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.fields.remove(name).map(str::to_owned)
    }

    /// The name of the log, which must be given.
    pub(super) fn log(&mut self) -> Result<String, String> {
        Ok(self.text("log").ok_or("log=NAME is missing")?)
    }

    /// The number that is the value of `name`.
    pub(super) fn number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let parse = |value: &str| {
            value
                .parse()
                .map_err(|_| format!("{name}={value} is no number"))
        };
        self.fields.remove(name).map(parse).transpose()
    }

    /// There must be nothing else. `known` names all that may be there.
    pub(super) fn finish(self, known: &str) -> Result<(), String> {
        match self.fields.keys().next() {
            Some(unknown) => Err(format!("`{unknown}` is unknown; there are {known}")),
            None => Ok(()),
        }
    }
}
