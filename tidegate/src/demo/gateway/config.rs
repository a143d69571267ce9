//! The configuration of the demonstration's gateway: what an owner would write, but for the free
//! ports and for timeouts that suit a link that is cut on purpose.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::demo::folder::Folder;
use crate::demo::upstream::Topic;

/// A file for `tidegate run`, which replicates `topics` to the cluster at `uplink`.
pub(super) fn text(folder: &Folder, uplink: SocketAddr, topics: &[Topic]) -> String {
    let mut text = format!(
        "data_dir = {data}\ngateway_id = \"demo-gateway\"\n\n\
         [[listener]]\nkind = \"mqtt\"\nbind = \"127.0.0.1:0\"\n\n\
         [admin]\nbind = \"127.0.0.1:0\"\n",
        data = quoted(&folder.data().to_string_lossy()),
    );
    for topic in topics {
        let (log, filter, partitions) = (topic.log, topic.filter, topic.partitions);
        // Writing into a string does not fail.
        let _ = write!(
            text,
            "\n[[log]]\nname = \"{log}\"\nfilters = [\"{filter}\"]\npartitions = {partitions}\n"
        );
    }
    let _ = write!(
        text,
        "\n[bridge]\nbootstrap = [\"{uplink}\"]\nrequest_timeout = \"5s\"\nbackoff_max = \"1s\"\n\
         checkpoint_interval = \"2s\"\n"
    );
    for topic in topics {
        let (log, name) = (topic.log, &topic.name);
        let _ = write!(
            text,
            "\n[[bridge.route]]\nname = \"{log}\"\nlog = \"{log}\"\ntopic = \"{name}\"\n"
        );
    }
    text
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use firmware_config::{Config, Machine};

    use super::text;
    use crate::demo::folder::Folder;
    use crate::demo::upstream::Topic;
    use crate::wiring;

    #[test]
    fn configuration_is_valid_whatever_the_folder_is_called() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["plain", "a \"quoted\" one", "back\\slash", "new\nline"] {
            let folder = Folder::create(Some(&parent.path().join(name))).unwrap();
            let topic = Topic {
                log: "alarms",
                filter: "alarms/#",
                partitions: 3,
                name: Arc::from("demo.alarms"),
            };
            let text = text(&folder, "127.0.0.1:9092".parse().unwrap(), &[topic]);
            let path = parent.path().join("demo.toml");
            std::fs::write(&path, &text).unwrap();
            let config = Config::from_file(&path, &wiring::checks(), &Machine::default()).unwrap();
            assert_eq!(config.data_dir, Path::new(&folder.data()));
            assert!(text.contains("topic = \"demo.alarms\""), "{text}");
        }
    }
}
