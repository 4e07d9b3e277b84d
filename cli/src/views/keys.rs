//! The keys that open a chain.

use holdfast_client::v1;
use serde::Serialize;

use super::some;
use crate::output::Table;

/// What opens a chain.
#[derive(Debug, Serialize)]
pub(crate) struct KeysView {
    subdir: String,
    encrypted: bool,
    key_id: Option<String>,
    number: Option<u32>,
    keys: Vec<KeyView>,
}

#[derive(Debug, Serialize)]
struct KeyView {
    id: String,
    kind: String,
    label: Option<String>,
    kdf: Option<String>,
}

impl From<v1::ChainKeys> for KeysView {
    fn from(keys: v1::ChainKeys) -> Self {
        Self {
            subdir: keys.subdir,
            encrypted: keys.encrypted,
            key_id: some(keys.key_id),
            number: keys.encrypted.then_some(keys.number),
            keys: keys
                .keys
                .into_iter()
                .map(|key| KeyView {
                    id: key.id,
                    kind: key.kind,
                    label: some(key.label),
                    kdf: some(key.kdf),
                })
                .collect(),
        }
    }
}

impl KeysView {
    pub(crate) fn text(&self) -> String {
        let Some(key_id) = &self.key_id else {
            return format!("the chain {} is not encrypted", self.subdir);
        };
        let mut table = Table::new(&["id", "kind", "key"]);
        for key in &self.keys {
            let key_of = key.label.as_ref().or(key.kdf.as_ref());
            table.row([
                key.id.clone(),
                key.kind.clone(),
                key_of.cloned().unwrap_or_default(),
            ]);
        }
        format!(
            "{table}\n\nany one of them opens the chain {} (data key {key_id})\n",
            self.subdir
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_by_what_they_are() {
        let view = KeysView::from(v1::ChainKeys {
            subdir: "2026/11/23-190800.00".into(),
            encrypted: true,
            key_id: "ab".into(),
            number: 2,
            keys: vec![
                v1::WrapperKey {
                    id: "01020304".into(),
                    kind: "passphrase".into(),
                    kdf: "argon2id m=65536 t=3 p=1".into(),
                    ..v1::WrapperKey::default()
                },
                v1::WrapperKey {
                    id: "05060708".into(),
                    kind: "aws-kms".into(),
                    label: "aws:///alias/k?REGION=r".into(),
                    ..v1::WrapperKey::default()
                },
            ],
        });
        assert_eq!(
            view.text(),
            "\
ID        KIND        KEY
01020304  passphrase  argon2id m=65536 t=3 p=1
05060708  aws-kms     aws:///alias/k?REGION=r

any one of them opens the chain 2026/11/23-190800.00 (data key ab)
"
        );
        let clear = KeysView::from(v1::ChainKeys {
            subdir: "x".into(),
            ..v1::ChainKeys::default()
        });
        assert_eq!(clear.text(), "the chain x is not encrypted");
    }
}
