//! What can be downloaded: addresses, sizes and checksums.
//!
//! The MD5 sums are those that the makers publish (the CIFAR-10 page; the README of Fashion-MNIST) or, for MNIST whose
//! own page names none, that torchvision checks. MD5 alone would not stop somebody who wants to slip in another file, so
//! each file must also have the size and the SHA-256 sum that TensorFlow Datasets records for the same address.

use std::path::Path;

use super::{Checksums, has_size};

/// Names of the sets, as the command line takes them.
pub const NAMES: [&str; 3] = ["cifar10", "mnist", "fashion-mnist"];

const CIFAR10: &str = "https://www.cs.toronto.edu/~kriz/";
const MNIST: &str = "https://storage.googleapis.com/cvdf-datasets/mnist/";
/// The makers' own address, which has no HTTPS; the checksums guard the files.
const FASHION_MNIST: &str = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/";
/// 10,000 images with a label each.
const CIFAR10_BATCH_BYTES: u64 = 30_730_000;

/// A data set that can be downloaded.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Its name, and that of its folder.
    pub name: &'static str,
    /// The form that `--dataset` reads it in: what stands before the colon.
    pub kind: &'static str,
    /// Its files.
    pub files: Vec<Remote>,
}

/// A file on a server.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where.
    pub url: String,
    /// Its name here.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Its checksums.
    pub checksums: Checksums,
    /// What is taken from it if it is a tar archive, compressed with gzip; empty for a file that stays as it is.
    pub members: Vec<Member>,
}

/// A file in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path in the archive.
    pub path: &'static str,
    /// Its name here.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
}

impl Remote {
    /// Names and sizes of the files that come of it.
    pub(super) fn products(&self) -> impl Iterator<Item = (&str, u64)> {
        let own = self.members.is_empty().then_some((self.name, self.bytes));
        own.into_iter().chain(self.members.iter().map(|member| (member.name, member.bytes)))
    }
}

impl Collection {
    /// The set of that name.
    pub fn find(name: &str) -> Option<Self> {
        match name {
            "cifar10" => Some(Self { name: "cifar10", kind: "cifar10", files: vec![cifar10()] }),
            "mnist" => Some(Self { name: "mnist", kind: "idx", files: mnist() }),
            "fashion-mnist" => Some(Self { name: "fashion-mnist", kind: "idx", files: fashion_mnist() }),
            _ => None,
        }
    }

    /// The first file that a folder lacks or has in another size.
    pub(super) fn lacking(&self, folder: &Path) -> Option<String> {
        let mut products = self.files.iter().flat_map(Remote::products);
        products.find(|(name, bytes)| !has_size(&folder.join(name), *bytes)).map(|(name, _)| name.into())
    }
}

fn remote(base: &str, name: &'static str, bytes: u64, md5: &str, sha256: &str) -> Remote {
    let checksums = Checksums { md5: md5.into(), sha256: sha256.into() };
    Remote { url: format!("{base}{name}"), name, bytes, checksums, members: Vec::new() }
}

fn cifar10() -> Remote {
    let member = |path, name| Member { path, name, bytes: CIFAR10_BATCH_BYTES };
    let members = vec![
        member("cifar-10-batches-bin/data_batch_1.bin", "data_batch_1.bin"),
        member("cifar-10-batches-bin/data_batch_2.bin", "data_batch_2.bin"),
        member("cifar-10-batches-bin/data_batch_3.bin", "data_batch_3.bin"),
        member("cifar-10-batches-bin/data_batch_4.bin", "data_batch_4.bin"),
        member("cifar-10-batches-bin/data_batch_5.bin", "data_batch_5.bin"),
        member("cifar-10-batches-bin/test_batch.bin", "test_batch.bin"),
    ];
    let archive = remote(
        CIFAR10,
        "cifar-10-binary.tar.gz",
        170_052_171,
        "c32a1d4ab5d03f1284b67883e8d87530",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    );
    Remote { members, ..archive }
}

fn mnist() -> Vec<Remote> {
    let file = |name, bytes, md5, sha256| remote(MNIST, name, bytes, md5, sha256);
    vec![
        file(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        file(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "d53e105ee54ea40749a09fcbcd1e9432",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        file(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "9fb629c4189551a2d022fa330f9573f3",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        file(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "ec29112dd5afa0611ce80d1b7f02629c",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ]
}

fn fashion_mnist() -> Vec<Remote> {
    let file = |name, bytes, md5, sha256| remote(FASHION_MNIST, name, bytes, md5, sha256);
    vec![
        file(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        file(
            "train-labels-idx1-ubyte.gz",
            29_515,
            "25c81989df183df01b3e8a0aad5dffbe",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        file(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "bef4ecab320f06d8554ea6380940ec79",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        file(
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "bb300cfdad3c16e7a12a480ee83cd310",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_files_with_whole_checksums() {
        for name in NAMES {
            let set = Collection::find(name).unwrap();
            assert_eq!(set.name, name);
            for file in &set.files {
                assert!(file.url.ends_with(&format!("/{}", file.name)) && file.bytes > 0);
                let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                let Checksums { md5, sha256 } = &file.checksums;
                assert!(md5.len() == 32 && sha256.len() == 64 && is_hex(md5) && is_hex(sha256), "{}", file.url);
            }
            let read = format!("{}:x", set.kind).parse::<podl_nas::data::DatasetSpec>().unwrap();
            assert_eq!(read.kind(), set.kind);
        }
        assert!(Collection::find("imagenet").is_none());
    }
}
