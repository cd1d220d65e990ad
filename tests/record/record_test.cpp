#include <gtest/gtest.h>

#include "calque/record/modules_csv.h"
#include "calque/record/report_json.h"

namespace calque::record {
namespace {

Measurement measured(const std::string& label, ModelKind kind) {
  Measurement m{.label = label, .kind = kind};
  m.perplexity_hf = {40.5, 0.25, 378};
  m.perplexity_llamacpp = {39.5, 0.5, 189};
  if (kind == ModelKind::kReference) return m;
  m.divergence = {.kl_mean = 0.01,
                  .kl_mean_uncertainty = 0.001,
                  .kl_median = 0.002,
                  .kl_p99 = 0.1,
                  .median_interval = {0.001, 0.003},
                  .top1_agreement = 0.875,
                  .rms_delta_p = 0.03};
  m.divergence.kl_histogram.counts = {1, 2, 3};
  return m;
}

Report report() {
  Report r;
  r.job_name = "a \"job\"";
  r.source_name = "tiny";
  r.threads = 2;
  r.source_bytes = 1000;
  r.source_bits_per_weight = 16;
  ArtifactReport& artifact = r.artifacts.emplace_back();
  artifact.plan.request = {.format = "gguf", .path = "/somewhere/tiny.gguf", .type = "Q4_K_M"};
  artifact.plan.tensor_bytes = 400;
  artifact.file_bytes = 444;
  artifact.bits_per_weight = 4.5;
  r.predicted.file_bytes = {444};
  EvaluationReport& evaluation = r.evaluations.emplace_back();
  evaluation.text = "prose";
  evaluation.seqlen = 64;
  evaluation.windows = 6;
  evaluation.begins_with = WindowStart{.as_given = false, .ids = {2}, .text = "<bos>"};
  evaluation.manifest.tokens_sha256 = "aa11";
  evaluation.manifest.sources = {{.path = "prose.txt", .sha256 = "bb22", .tokens = 5}};
  evaluation.models = {measured("original", ModelKind::kReference),
                       measured("tiny.gguf", ModelKind::kArtifact)};
  r.stages.forward = 1.5;
  r.instruction_set = "avx512";
  r.stage_devices = {"cpu", "cpu", "cpu", "cuda:1", "cpu"};
  r.stage_peaks = {{"forward", 10, 11}};
  r.predicted.stages.quantize = 2.5;
  r.predicted.seconds_from = "estimate";
  r.warnings = {"one", "two"};
  return r;
}

// Nothing that metrics.json holds is lost when it is read back.
TEST(ReportJson, ReadsBackWhatItWrote) {
  const std::string text = report_json(report());
  const Report back = report_from(io::parse_json(text));
  EXPECT_EQ(report_json(back), text);
  EXPECT_EQ(back.artifacts.at(0).type(), "Q4_K_M");
  EXPECT_EQ(back.stage_devices.quantize, "cuda:1");
  EXPECT_EQ(back.instruction_set, "avx512");
  EXPECT_EQ(back.predicted.file_bytes.at(0), 444u);
  const Measurement* artifact = back.evaluations.at(0).artifact("tiny.gguf");
  ASSERT_NE(artifact, nullptr);
  EXPECT_TRUE(artifact->compared());
  EXPECT_EQ(artifact->divergence.median_interval.high, 0.003);
  EXPECT_FALSE(back.evaluations.at(0).reference().compared());
}

TEST(PredictionsText, SaysWhatWindowsBeginWith) {
  EvaluationReport e;
  EXPECT_EQ(predictions_text(e, ""), "every token of a window except the first");
  e.begins_with = WindowStart{};
  EXPECT_EQ(predictions_text(e, ""), "every token of a window except the first; no BOS is added");
  e.begins_with->as_given = true;
  EXPECT_EQ(predictions_text(e, ""),
            "every token of a window except the first; windows begin as the token ids were given");
  e.begins_with = WindowStart{.as_given = false, .ids = {2}, .text = "<bos>"};
  EXPECT_EQ(predictions_text(e, "`<bos>`"),
            "every token of every window, which begins with `<bos>` (not scored)");
}

TEST(ReportJson, WhatAnotherVersionLacksStaysEmpty) {
  const Report back = report_from(io::parse_json(R"({"artifacts": [{"name": "a"}], "new": 1})"));
  EXPECT_EQ(back.artifacts.at(0).name(), "a");
  EXPECT_EQ(back.artifacts.at(0).type(), "");
  EXPECT_TRUE(back.evaluations.empty());
  EXPECT_EQ(sum(back.stages), 0);
}

TEST(Stages, AddAndSubtractByName) {
  StageSeconds a{.load = 1, .forward = 2};
  a += {.forward = 3, .evaluate = 4};
  EXPECT_EQ(sum(a), 10);
  EXPECT_EQ(difference(a, {.forward = 2}).forward, 3);
}

TEST(ModulesCsv, ARowThatNeedsQuotesReadsBack) {
  ModuleReport module;
  module.block = 3;
  module.module = "model.layers.3.self_attn.q_proj";
  module.grid.bits = 4;
  module.grid.group_size = 64;
  module.out_features = 96;
  module.in_features = 128;
  module.rounding.method = "rtn";
  module.rounding.relative_error = 0.25;
  module.rounding.fallback_reason = "the \"Gram\" matrix, even damped";
  const std::string text = modules_csv_header() + modules_csv_row(module);
  const auto passes = passes_from(io::parse_csv(text, "modules.csv"));
  ASSERT_EQ(passes.size(), 1u);
  const ModuleReport& back = passes[0].at(0);
  EXPECT_EQ(back.module, module.module);
  EXPECT_EQ(back.role, "self_attn.q_proj");
  EXPECT_EQ(back.rounding.fallback_reason, module.rounding.fallback_reason);
  EXPECT_EQ(back.grid.group_size, 64);
  // A scale of 16 bits for 64 weights of 4: 4.25.
  EXPECT_EQ(back.bits_per_weight, 4.25);
}

TEST(ModulesCsv, RolesLeaveOutLayersAndExperts) {
  EXPECT_EQ(role_of("model.layers.3.self_attn.q_proj"), "self_attn.q_proj");
  EXPECT_EQ(role_of("model.layers.3.mlp.experts.11.up_proj"), "mlp.experts.up_proj");
  EXPECT_EQ(role_of("lm_head"), "lm_head");
}

TEST(ReportJson, KeepsTheAnswersOfTasks) {
  Report r = report();
  TaskReport& task = r.tasks.emplace_back();
  task.task = "sums";
  task.kind = TaskKind::kGeneration;
  task.metric = "exact_match";
  task.questions = 4;
  task.cut = 1;
  task.models = {{"original", ModelKind::kReference, "", {{"exact_match", "1110"}}},
                 {"tiny.gguf", ModelKind::kArtifact, "q8_0", {{"exact_match", "1001"}}}};
  const io::Json json = io::parse_json(report_json(r));
  const io::Json& metric =
      json.at("tasks").at(0).at("models").at(1).at("metrics").at("exact_match");
  EXPECT_EQ(metric.at("value").number(), 0.5);
  EXPECT_EQ(metric.at("difference").number(), -0.25);
  EXPECT_EQ(metric.at("lost").integer(), 2);
  EXPECT_EQ(metric.at("won").integer(), 1);
  EXPECT_EQ(metric.at("mcnemar_p").number(), 1);
  const Report back = report_from(json);
  ASSERT_EQ(back.tasks.size(), 1u);
  EXPECT_EQ(back.tasks[0].kind, TaskKind::kGeneration);
  EXPECT_EQ(back.tasks[0].cut, 1);
  EXPECT_EQ(*back.tasks[0].models.at(1).find("exact_match"), "1001");
  EXPECT_EQ(back.tasks[0].models[1].kv_cache, "q8_0");
  EXPECT_EQ(report_json(back).substr(0, 200), report_json(r).substr(0, 200));
}

}  // namespace
}  // namespace calque::record
