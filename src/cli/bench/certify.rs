//! `weft bench validate`, `key`, `certify` and `verify`.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{
    super::{Common, Misuse, output},
    kept, print,
};
use crate::{
    bench::{CertificateError, Level, Results, Signer, Trusted, Validation, validate, verify},
    tasks,
};

/// What is looked at, and beside what.
#[derive(Args)]
struct Looked {
    /// A file, or the id, commit or branch of a result that `weft bench list` shows
    result: String,
    /// Other runs of the suite, named in the same way: those on the same machine repeat it, those on another confirm it
    #[arg(long, value_name = "RESULT", num_args = 1..)]
    with: Vec<String>,
}

impl Looked {
    async fn validated(&self, common: &Common, level: Level) -> anyhow::Result<(Results, Validation)> {
        let results = kept::read(common, &self.result).await?;
        let mut others = Vec::new();
        for other in &self.with {
            others.push(kept::read(common, other).await?);
        }
        let validation = validate(&results, &others, level);
        Ok((results, validation))
    }
}

fn level(text: &str) -> Result<Level, String> {
    let names: Vec<_> = Level::ALL.map(Level::name).to_vec();
    let found = Level::ALL.into_iter().find(|level| level.name() == text);
    found.ok_or_else(|| format!("there are {}", names.join(", ")))
}

#[derive(Args)]
pub(in crate::cli) struct Validate {
    #[command(flatten)]
    looked: Looked,
    /// minimal, standard, strict or certification
    #[arg(long, default_value = "standard", value_parser = level)]
    level: Level,
}

#[derive(Debug, thiserror::Error)]
#[error("it is not valid: {0} of the checks did not pass")]
struct Short(usize);

impl Short {
    fn of(validation: &Validation) -> Result<(), Self> {
        match validation.checks.iter().filter(|check| !check.passed).count() {
            0 => Ok(()),
            count => Err(Self(count)),
        }
    }
}

impl Validate {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let (results, validation) = self.looked.validated(common, self.level).await?;
        if common.json {
            output::json(&json!({"id": results.id, "validation": validation}))?;
        } else {
            print::validation(&results.id, &validation);
        }
        Ok(Short::of(&validation)?)
    }
}

#[derive(Args)]
pub(in crate::cli) struct Key {
    /// Where the private key goes, for nobody else to read; the public one goes beside it, with `.pub` behind its name
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

impl Key {
    pub(super) fn run(self, common: &Common) -> anyhow::Result<()> {
        let (private, public) = Signer::generate()?;
        let mut beside = self.out.clone().into_os_string();
        beside.push(".pub");
        let beside = PathBuf::from(beside);
        create(&self.out, &private, 0o600)?;
        create(&beside, &public, 0o644)?;
        let fingerprint = Trusted::from_pem(&public)?.fingerprint();
        if common.json {
            return output::json(&json!({"private": self.out, "public": beside, "fingerprint": fingerprint}));
        }
        output::line(&format!("{} {fingerprint}", beside.display()));
        Ok(())
    }
}

/// A key that is there is never lost.
fn create(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())
}

#[derive(Args)]
pub(in crate::cli) struct Certify {
    #[command(flatten)]
    looked: Looked,
    /// minimal, standard, strict or certification
    #[arg(long, default_value = "certification", value_parser = level)]
    level: Level,
    /// The private key, as `weft bench key` makes it
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Where the certificate goes
    #[arg(short, long, value_name = "CERT")]
    out: PathBuf,
}

impl Certify {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let shown = self.signing_key.display();
        let key = fs::read_to_string(&self.signing_key).with_context(|| shown.to_string())?;
        let signer = Signer::from_pem(&key).map_err(|error| Misuse(format!("{shown}: {error}")))?;
        let (results, validation) = self.looked.validated(common, self.level).await?;
        if !common.json {
            print::validation(&results.id, &validation);
        }
        Short::of(&validation)?;
        let certificate = signer.certify(&results, validation.clone(), tasks::now_us());
        fs::write(&self.out, certificate).with_context(|| self.out.display().to_string())?;
        let fingerprint = signer.public().fingerprint();
        if common.json {
            let told = json!({"id": results.id, "validation": validation, "certificate": self.out,
                "key": fingerprint});
            return output::json(&told);
        }
        output::line(&format!("{} is signed by {fingerprint}", self.out.display()));
        Ok(())
    }
}

#[derive(Args)]
pub(in crate::cli) struct Verify {
    certificate: PathBuf,
    /// The public key that must have signed it; without one anybody may have
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// The result that it must be of: a file, or the id, commit or branch of one that `weft bench list` shows
    #[arg(long)]
    result: Option<String>,
}

impl Verify {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
        let key = self.public_key.as_deref().map(|path| {
            let wrong = |error: CertificateError| Misuse(format!("{}: {error}", path.display()));
            anyhow::Ok(Trusted::from_pem(&read(path)?).map_err(wrong)?)
        });
        let key = key.transpose()?;
        let shown = self.certificate.display().to_string();
        let verified = verify(&read(&self.certificate)?, key.as_ref());
        let (statement, signer) = verified.with_context(|| shown.clone())?;
        if let Some(result) = &self.result {
            let results = kept::read(common, result).await?;
            statement.is_of(&results).with_context(|| shown.clone())?;
        }
        let fingerprint = signer.fingerprint();
        if common.json {
            let trusted = key.is_some();
            return output::json(&json!({"statement": statement, "key": fingerprint, "trusted": trusted}));
        }
        print::statement(&statement);
        output::line(&match key {
            Some(_) => format!("signed by {fingerprint}"),
            None => format!(
                "signed by {fingerprint}, whoever that is: `--public-key FILE` holds it against a key"
            ),
        });
        Ok(())
    }
}
