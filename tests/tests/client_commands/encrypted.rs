//! TLS, towards mosquitto with a certificate of a CA that the test makes itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::command_line;
use tests::mosquitto::{self, Mosquitto};
use tests::mqtt::Version;
use tests::supervised::ExitCode;
use tests::{ports, program, skip};

use crate::{at, expect_failure, expect_success, run};

/// A CA, a certificate of it for `localhost` only, and another CA.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &[&str]| {
            let mut command = Command::new(program::find("openssl").unwrap());
            command.current_dir(folder.path()).args(arguments);
            let ended = command_line::run(&command).unwrap();
            assert_eq!(ended.code, ExitCode(0), "{ended:?}");
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let new_key = [&["req", "-nodes"][..], &key].concat();
        for name in ["ca", "other"] {
            let (pem, key) = (format!("{name}.pem"), format!("{name}.key"));
            let subject = format!("/CN={name} of the test");
            let files = ["-x509", "-days", "3650", "-subj", &subject];
            let out = ["-keyout", &key, "-out", &pem];
            openssl(&[&new_key[..], &files, &out].concat());
        }
        let request = ["-subj", "/CN=localhost", "-keyout", "server.key"];
        openssl(&[&new_key[..], &request, &["-out", "server.csr"]].concat());
        let extensions = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost\n";
        fs::write(folder.path().join("extensions"), extensions).unwrap();
        let sign = ["x509", "-req", "-in", "server.csr", "-days", "3650"];
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        let how = ["-extfile", "extensions", "-out", "server.pem"];
        openssl(&[&sign[..], &by, &how].concat());
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The configuration of a listener that uses them.
    fn listener(&self, port: u16) -> String {
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        let (certificate, key) = (certificate.display(), key.display());
        format!("listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n")
    }
}

fn peers() -> Result<(), String> {
    mosquitto::available()?;
    program::require("openssl", "openssl").map(drop)
}

/// Arguments for a host, a port, a version and the certificates to trust.
fn encrypted(host: &str, port: u16, version: Version, cafile: &Path) -> Vec<String> {
    let mut arguments = at(([127, 0, 0, 1], port).into(), version);
    arguments[1] = host.to_owned();
    arguments.extend(["--cafile".to_owned(), cafile.display().to_string()]);
    arguments
}

#[test]
fn messages_pass_encrypted_when_the_ca_is_trusted_and_not_otherwise() {
    let Some(()) = skip::unless(peers()) else {
        return;
    };
    let certificates = Certificates::make();
    let port = ports::free().unwrap();
    let broker = Mosquitto::start(&certificates.listener(port)).unwrap();
    let (ca, other) = (certificates.path("ca.pem"), certificates.path("other.pem"));
    let publish = ["-t", "secret", "-r", "-q", "1", "-m", "x"];
    for version in Version::BOTH {
        let at_tls = |host, cafile| encrypted(host, port, version, cafile);
        expect_success(&run("pub", &at_tls("localhost", &ca), &publish));
        let printed = run("sub", &at_tls("localhost", &ca), &["-t", "#", "-c", "1"]);
        expect_success(&printed);
        assert_eq!(printed.stdout, "x\n");

        let failing = [
            (
                at_tls("localhost", &other),
                "is not signed by one in the file of --cafile",
            ),
            (
                at_tls("127.0.0.1", &ca),
                "is for another name than that of --host",
            ),
            (
                encrypted("localhost", broker.address().port(), version, &ca),
                "is this its port for TLS (--port)?",
            ),
            (
                at(([127, 0, 0, 1], port).into(), version),
                "if it expects TLS, use --cafile",
            ),
        ];
        for (at, text) in failing {
            for (word, arguments) in [("pub", &publish[..]), ("sub", &["-t", "#"])] {
                let ended = run(
                    word,
                    &[&at[..], &["--timeout".into(), "20".into()]].concat(),
                    arguments,
                );
                expect_failure(&ended, 1, &[text, &at[1]]);
            }
        }
    }
}

#[test]
fn file_of_certificates_is_refused_by_name_when_it_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("empty"), "").unwrap();
    fs::write(path("text"), "no certificate at all\n").unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    fs::write(path("broken"), broken).unwrap();
    let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(path("wrong"), wrong).unwrap();
    let unused = ports::free().unwrap();
    for (name, text) in [
        ("missing", "No such file"),
        ("empty", "has no certificate (PEM)"),
        ("text", "has no certificate (PEM)"),
        ("broken", "is not a PEM file"),
        ("wrong", "cannot be used"),
    ] {
        let at = encrypted("localhost", unused, Version::V5, &path(name));
        let path = path(name);
        for arguments in [&["pub", "-t", "a", "-m", "x"][..], &["sub", "-t", "a"]] {
            let ended = run(arguments[0], &at, &arguments[1..]);
            expect_failure(&ended, 1, &[text, &path.display().to_string()]);
        }
    }
}
