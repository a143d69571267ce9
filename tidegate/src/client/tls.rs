//! TLS towards a broker: rustls with ring, and no certificate trusted but those of the given file.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Encrypted TCP that trusts the certificates of a PEM file.
pub(super) fn transport(cafile: &Path) -> anyhow::Result<Transport> {
    let name = cafile.display();
    let certificates = CertificateDer::pem_file_iter(cafile)
        .with_context(|| format!("read the certificates in {name}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("{name} is not a PEM file"))?;
        roots
            .add(certificate)
            .with_context(|| format!("a certificate in {name} cannot be used"))?;
    }
    if roots.is_empty() {
        bail!("{name} has no certificate (PEM)");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let configuration = TlsConfiguration::Rustls(Arc::new(config));
    Ok(Transport::tls_with_config(configuration))
}
