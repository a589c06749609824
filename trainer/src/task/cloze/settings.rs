//! Settings of cloze questions.

use std::fmt;

use glm_schemas::manifest::{ClozeLoss, ClozeManifest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `[cloze]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "reference.toml documents every key")]
pub struct ClozeSettings {
    pub loss: Loss,
    pub length_penalty: f64,
    pub metrics: MetricList,
}

/// Value of `cloze.length_penalty` that stands for that of the data set.
const AS_THE_DATA_SET: f64 = -1.0;

impl Default for ClozeSettings {
    fn default() -> Self {
        Self { loss: Loss::Auto, length_penalty: AS_THE_DATA_SET, metrics: MetricList::AUTO }
    }
}

impl ClozeSettings {
    /// Replaces what the settings leave to the data set by what its manifest says.
    ///
    /// # Errors
    /// A message about a metric that is unknown.
    pub fn complete(&mut self, manifest: &ClozeManifest) -> Result<(), String> {
        if self.loss == Loss::Auto {
            self.loss = manifest.loss.into();
        }
        if self.length_penalty == AS_THE_DATA_SET {
            self.length_penalty = manifest.length_penalty;
        }
        if self.metrics.is_auto() {
            self.metrics = MetricList::of_names(manifest.metrics.iter().map(String::as_str))?;
        }
        Ok(())
    }

    /// Exponent of the number of targets by which the log probability of a choice is divided.
    pub fn penalty(&self) -> f64 {
        self.length_penalty.max(0.0)
    }

    /// Returns key, value and allowed range of the first setting that is out of range.
    pub fn out_of_range(&self) -> Option<(&'static str, String, &'static str)> {
        let penalty = self.length_penalty;
        let is_valid = penalty.is_finite() && (penalty >= 0.0 || penalty == AS_THE_DATA_SET);
        (!is_valid).then(|| ("cloze.length_penalty", format!("{penalty:?}"), "at least 0, or -1 for that of the data set"))
    }
}

/// Loss of a batch of questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// That of the data set, else cross entropy.
    #[default]
    Auto,
    /// Cross entropy over the choices of a question.
    CrossEntropy,
    /// Negative score of the right choice.
    Generative,
    /// Sum of both.
    Mix,
    /// Distance by which the score of a wrong choice comes within 1 of the right one's, summed over the wrong choices.
    Hinge,
    /// Cross entropy over the vocabulary, a mean over the targets of all questions, each of which has one choice: its answer. The answer
    /// is predicted if each of its targets is the most probable token.
    TokenCrossEntropy,
}

impl From<ClozeLoss> for Loss {
    fn from(loss: ClozeLoss) -> Self {
        match loss {
            ClozeLoss::CrossEntropy => Self::CrossEntropy,
            ClozeLoss::Generative => Self::Generative,
            ClozeLoss::Mix => Self::Mix,
            ClozeLoss::Hinge => Self::Hinge,
            ClozeLoss::TokenCrossEntropy => Self::TokenCrossEntropy,
        }
    }
}

impl Loss {
    /// True if questions have one choice, which is predicted if the model would write it.
    pub fn is_of_tokens(self) -> bool {
        self == Self::TokenCrossEntropy
    }
}

/// Metric of cloze questions that can select the best checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClozeMetric {
    /// Share of questions whose best choice is correct.
    Accuracy,
    /// Mean F1 of the labels.
    MacroF1,
    /// F1 of the second label.
    F1a,
    /// Share of groups whose questions are all answered correctly.
    Em,
    /// Correlation of predicted and right labels.
    Matthews,
    /// Words shared with a correct answer.
    F1,
    /// Text equal to a correct answer.
    ExactMatch,
}

impl ClozeMetric {
    const ALL: [Self; 7] = [Self::Accuracy, Self::MacroF1, Self::F1a, Self::Em, Self::Matthews, Self::F1, Self::ExactMatch];

    /// Name in settings and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "f1_macro",
            Self::F1a => "f1a",
            Self::Em => "em",
            Self::Matthews => "matthews",
            Self::F1 => "f1",
            Self::ExactMatch => "exact_match",
        }
    }

    fn of_name(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|metric| metric.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(|metric| format!("`{}`", metric.name())).join(", ");
            format!("unknown variant `{name}`, expected a list of {names}, separated by commas, or `auto`")
        })
    }
}

/// Metrics in order; the first selects the best checkpoint. In files the names separated by commas, or `auto` for the metrics of the data
/// set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricList([Option<ClozeMetric>; ClozeMetric::ALL.len()]);

impl MetricList {
    /// The metrics of the data set, else those of ReCoRD.
    pub const AUTO: Self = Self([None; ClozeMetric::ALL.len()]);
    /// Those of questions about entities.
    const RECORD: Self = {
        let mut list = Self::AUTO;
        list.0[0] = Some(ClozeMetric::Accuracy);
        list.0[1] = Some(ClozeMetric::F1);
        list.0[2] = Some(ClozeMetric::ExactMatch);
        list
    };

    /// Parses names.
    ///
    /// # Errors
    /// A message about the first name that is unknown or repeated.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut list = Self::AUTO;
        for name in names {
            let metric = ClozeMetric::of_name(name.trim())?;
            if list.iter().any(|known| known == metric) {
                return Err(format!("has {} twice", metric.name()));
            }
            if let Some(slot) = list.0.iter_mut().find(|slot| slot.is_none()) {
                *slot = Some(metric);
            }
        }
        Ok(list)
    }

    fn iter(self) -> impl Iterator<Item = ClozeMetric> {
        self.0.into_iter().flatten()
    }

    /// True if the metrics are those of the data set.
    pub fn is_auto(self) -> bool {
        self.0[0].is_none()
    }

    /// The metrics, in order; at least one.
    pub fn metrics(self) -> impl Iterator<Item = ClozeMetric> {
        if self.is_auto() { Self::RECORD.iter() } else { self.iter() }
    }
}

impl fmt::Display for MetricList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_auto() {
            return f.write_str("auto");
        }
        f.write_str(&self.iter().map(ClozeMetric::name).collect::<Vec<_>>().join(","))
    }
}

impl Serialize for MetricList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MetricList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(Self::AUTO),
            names => Self::of_names(names.split(',')).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_and_written_as_names() {
        let list = MetricList::of_names(["f1a", "em", "accuracy"]).expect("names");
        assert_eq!(serde_json::to_string(&list).expect("json"), r#""f1a,em,accuracy""#);
        assert_eq!(serde_json::from_str::<MetricList>(r#""f1a, em,accuracy""#).expect("names"), list);
        assert_eq!(serde_json::from_str::<MetricList>(r#""auto""#).expect("names"), MetricList::AUTO);
        assert_eq!(list.metrics().next(), Some(ClozeMetric::F1a));
        assert_eq!(MetricList::AUTO.metrics().next(), Some(ClozeMetric::Accuracy));
        let refused = |names: &str| MetricList::of_names(names.split(',')).expect_err("refused");
        assert!(refused("f1a,mse").starts_with("unknown variant `mse`, expected a list of `accuracy`, "));
        assert_eq!(refused("em,em"), "has em twice");
        // Those that the ingest of a pattern accepts.
        assert_eq!(ClozeMetric::ALL.map(ClozeMetric::name), glm_schemas::manifest::METRIC_NAMES);
    }

    #[test]
    fn the_manifest_completes_what_is_not_set() {
        let metrics = vec!["f1a".to_owned(), "em".to_owned()];
        let mut manifest = ClozeManifest::record("own");
        (manifest.loss, manifest.length_penalty, manifest.metrics) = (ClozeLoss::Mix, 1.0, metrics);
        let mut settings = ClozeSettings::default();
        settings.complete(&manifest).expect("known");
        assert_eq!((settings.loss, settings.length_penalty, settings.metrics.to_string().as_str()), (Loss::Mix, 1.0, "f1a,em"));
        let mut set = ClozeSettings { loss: Loss::Hinge, length_penalty: 0.0, metrics: MetricList::RECORD };
        let before = set;
        set.complete(&manifest).expect("known");
        assert_eq!(set, before);
        manifest.metrics = vec!["mse".to_owned()];
        assert!(ClozeSettings::default().complete(&manifest).expect_err("unknown").starts_with("unknown variant `mse`"));
    }

    #[test]
    fn a_length_penalty_is_a_number_or_that_of_the_data_set() {
        let of = |length_penalty| ClozeSettings { length_penalty, ..ClozeSettings::default() };
        assert_eq!([of(-1.0).penalty(), of(0.0).penalty(), of(1.0).penalty()], [0.0, 0.0, 1.0]);
        assert!([-1.0, 0.0, 0.5].into_iter().all(|penalty| of(penalty).out_of_range().is_none()));
        assert!([-0.5, f64::NAN].into_iter().all(|penalty| of(penalty).out_of_range().is_some()));
    }
}
