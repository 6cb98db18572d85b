//! `tidegate ota`: packages for devices.

use crate::admin::operations::ota::{Assignment, PackageList};
use crate::cli::access::{Access, Missing};
use crate::cli::arguments::Place;
use crate::cli::{Failure, output, profile};
use crate::registry::packages::{ChecksumAlgorithm, NewPackage, Package, PackageKind};
use clap::{Args, Subcommand, ValueEnum};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// Add firmware and software packages, and say which device is to have which.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidegate ota add firmware.bin --title tracker --version 1.4.2
  tidegate ota add maps.tar --type software --title maps --version 7 --algorithm crc32
  tidegate ota add --url https://example.com/fw.bin --title tracker --version 1.5.0
  tidegate ota assign 1 --profile tracker
  tidegate ota assign 1 --device tracker-17
  tidegate ota unassign --device tracker-17

A device learns of its package by its shared attributes fw_title, fw_version, fw_size, fw_checksum
(sw_... of software), and downloads it from /fw/TOKEN (/sw/TOKEN), or from /fw with a certificate.")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct OtaArguments {
    #[command(flatten)]
    place: Place,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: OtaCommand,
}

#[derive(Debug, Subcommand)]
enum OtaCommand {
    /// Add a package; its checksum is computed, and compared when one is given
    #[command(
        after_help = "Examples:\n  tidegate ota add firmware.bin --title tracker --version 1.4.2\n  tidegate ota add --url https://example.com/fw.bin --title tracker --version 1.5.0"
    )]
    Add {
        /// The file
        #[arg(required_unless_present = "url", conflicts_with = "url")]
        file: Option<PathBuf>,
        /// Where devices fetch it themselves, instead of a file
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// What it is for
        #[arg(long = "type", value_name = "TYPE", default_value = "firmware")]
        kind: Kind,
        /// Its title
        #[arg(long, value_name = "TITLE")]
        title: String,
        /// Its version, unique with type and title
        #[arg(long, value_name = "VERSION")]
        version: String,
        /// A label of your own
        #[arg(long, value_name = "TAG")]
        tag: Option<String>,
        /// How the checksum is computed that devices are told
        #[arg(long, value_name = "ALGORITHM", default_value = "SHA256", ignore_case = true,
              value_parser = clap::builder::PossibleValuesParser::new(
                  ChecksumAlgorithm::ALL.map(ChecksumAlgorithm::name)))]
        algorithm: String,
        /// What it must be, in hexadecimal
        #[arg(long, value_name = "HEX")]
        checksum: Option<String>,
    },
    /// List the packages, oldest first
    #[command(after_help = "Example:\n  tidegate ota list")]
    List,
    /// Give a package to a device, or to the devices of a profile
    #[command(
        after_help = "Examples:\n  tidegate ota assign 1 --profile tracker\n  tidegate ota assign 1 --device tracker-17"
    )]
    Assign {
        /// Its number
        id: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Take the package of a device, or of a profile, away
    #[command(
        after_help = "Examples:\n  tidegate ota unassign --device tracker-17\n  tidegate ota unassign --type software --profile tracker"
    )]
    Unassign {
        /// Which of its packages
        #[arg(long = "type", value_name = "TYPE", default_value = "firmware")]
        kind: Kind,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a package that nobody has
    #[command(after_help = "Example:\n  tidegate ota remove 1")]
    Remove {
        /// Its number
        id: u64,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// A device's name
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// A profile's name
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Firmware,
    Software,
}

impl From<Kind> for PackageKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Firmware => Self::Firmware,
            Kind::Software => Self::Software,
        }
    }
}

pub(super) fn run(arguments: &OtaArguments) -> Result<(), Failure> {
    let open = |missing| Access::open(&arguments.place, missing);
    let json = arguments.json;
    match &arguments.command {
        OtaCommand::Add {
            file,
            url,
            kind,
            title,
            version,
            tag,
            algorithm,
            checksum,
        } => {
            let algorithm = ChecksumAlgorithm::ALL
                .into_iter()
                .find(|known| known.name().eq_ignore_ascii_case(algorithm))
                .unwrap_or_default();
            let package = NewPackage {
                kind: (*kind).into(),
                title: title.clone(),
                version: version.clone(),
                tag: tag.clone(),
                url: url.clone(),
                algorithm,
                checksum: checksum.clone(),
            };
            let mut source: Box<dyn Read> = match file {
                None => Box::new(io::empty()),
                Some(path) => Box::new(File::open(path).map_err(|error| {
                    Failure::new(format_args!("{} cannot be read: {error}", path.display()))
                })?),
            };
            let added = open(Missing::Create)?.add_package(&package, &mut source)?;
            print(&added, json)
        }
        OtaCommand::List => list(&open(Missing::Refuse)?.packages()?, json),
        OtaCommand::Assign { id, target } => {
            let access = open(Missing::Refuse)?;
            let packages = access.packages()?.packages;
            let found = packages.iter().find(|package| package.id == *id);
            let kind = found.map(|package| package.kind).ok_or_else(|| {
                let list = "`tidegate ota list` shows those there are";
                Failure::new(format_args!("there is no package {id}; {list}"))
            })?;
            assign(&access, kind, Some(*id), target, json)
        }
        OtaCommand::Unassign { kind, target } => {
            assign(&open(Missing::Refuse)?, (*kind).into(), None, target, json)
        }
        OtaCommand::Remove { id } => {
            open(Missing::Refuse)?.remove_package(*id)?;
            profile::removed(&id.to_string(), json)
        }
    }
}

fn assign(
    access: &Access,
    kind: PackageKind,
    package: Option<u64>,
    target: &Target,
    json: bool,
) -> Result<(), Failure> {
    let assigned = access.assign_package(&Assignment {
        kind,
        package,
        device: target.device.clone(),
        profile: target.profile.clone(),
    })?;
    let mut out = output::stdout();
    if json {
        output::write_json(&mut out, &assigned)?;
    } else {
        match assigned.devices {
            1 => writeln!(out, "1 device was told")?,
            devices => writeln!(out, "{devices} devices were told")?,
        }
    }
    out.flush()?;
    Ok(())
}

fn print(package: &Package, json: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    if json {
        output::write_json(&mut out, package)?;
    } else {
        let checksum = format!("{} {}", package.algorithm.name(), package.checksum);
        let mut fields = vec![
            ("number", package.id.to_string()),
            ("type", kind_name(package).to_owned()),
            ("title", package.title.clone()),
            ("version", package.version.clone()),
        ];
        match &package.url {
            Some(url) => fields.push(("url", url.clone())),
            None => fields.extend([("bytes", package.size.to_string()), ("checksum", checksum)]),
        }
        output::write_fields(&mut out, &fields)?;
    }
    out.flush()?;
    Ok(())
}

fn list(list: &PackageList, json: bool) -> Result<(), Failure> {
    let mut out = output::stdout();
    if json {
        output::write_json(&mut out, &list.packages)?;
    } else if list.packages.is_empty() {
        writeln!(out, "no packages; `tidegate ota add FILE` adds one")?;
    } else {
        writeln!(
            out,
            "{:>6}  {:<8}  {:>10}  TITLE VERSION",
            "NUMBER", "TYPE", "BYTES"
        )?;
        for package in &list.packages {
            let kind = kind_name(package);
            let name = output::printable(&format!("{} {}", package.title, package.version));
            // Of one that lies elsewhere the size is not known.
            let size = match package.url {
                Some(_) => "elsewhere".to_owned(),
                None => package.size.to_string(),
            };
            writeln!(out, "{:>6}  {kind:<8}  {size:>10}  {name}", package.id)?;
        }
    }
    out.flush()?;
    Ok(())
}

const fn kind_name(package: &Package) -> &'static str {
    match package.kind {
        PackageKind::Firmware => "firmware",
        PackageKind::Software => "software",
    }
}
