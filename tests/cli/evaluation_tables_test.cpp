#include "cli/evaluation_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

// Exact text for made-up evaluations.

namespace calque::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

record::Measurement metrics(const std::string& label, record::ModelKind kind, double kl) {
  record::Measurement m;
  m.label = label;
  m.kind = kind;
  m.perplexity_hf = {20 + 10 * kl, 0.0625, 20440};
  m.perplexity_llamacpp = {19 + 10 * kl, 0.125, 10240};
  m.divergence.kl_mean = kl;
  m.divergence.kl_mean_uncertainty = 0.0005;
  m.divergence.kl_median = kl / 2;
  m.divergence.kl_p90 = kl * 4;
  m.divergence.kl_p99 = kl * 8;
  m.divergence.kl_p999 = kl * 16;
  m.divergence.kl_max = 2.5;
  m.divergence.median_interval = {kl / 4, kl};
  m.divergence.p90_interval = {kl * 3, kl * 5};
  m.divergence.p99_interval = {kl * 7, kl * 9};
  m.divergence.p999_interval = {kl * 12, kl * 20};
  m.divergence.top1_agreement = 0.9275;
  m.divergence.top1_agreement_uncertainty = 0.0025;
  m.divergence.rms_delta_p = 0.03125;
  return m;
}

record::Measurement cached(record::Measurement m, const std::string& cache, std::uint64_t bytes) {
  m.kv_cache = cache;
  m.kv_cache_bytes = bytes;
  return m;
}

record::EvaluationReport evaluation(const std::string& text, Index seqlen,
                                    std::vector<record::Measurement> models) {
  models.insert(models.begin(), metrics("original", record::ModelKind::kReference, 0));
  record::EvaluationReport e;
  e.text = text;
  e.seqlen = seqlen;
  e.windows = 40;
  e.models = std::move(models);
  return e;
}

constexpr auto kArtifact = record::ModelKind::kArtifact;

TEST(EvaluationsText, NamesBothPerplexitiesAllDivergencesAndIntervals) {
  EXPECT_EQ(evaluations_text({evaluation("prose", 512, {metrics("demo", kArtifact, 0.025)})}),
            "model     ppl (Hugging Face)     +/-  ppl (llama.cpp)     +/-\n"
            "original             20.0000  0.0625          19.0000  0.1250\n"
            "demo                 20.2500  0.0625          19.2500  0.1250\n"
            "\n"
            "Divergence from the reference (KL in nats)\n"
            "model   KL mean       +/-     max  top-1 %   +/-  RMS dp %\n"
            "demo   0.025000  0.000500  2.5000    92.75  0.25     3.125\n"
            "\n"
            "Percentiles of KL in thousandths of a nat, with 95 % intervals\n"
            "model           median            p90             p99           p99.9\n"
            "demo   12.5 [6.25, 25]  100 [75, 125]  200 [175, 225]  400 [300, 500]\n");
}

TEST(EvaluationsText, SaysWhatWindowsBeginWith) {
  record::EvaluationReport e = evaluation("prose", 512, {});
  e.begins_with = record::WindowStart{.as_given = false, .ids = {2}, .text = "<bos>"};
  EXPECT_EQ(
      evaluations_text({e}).find("Perplexity over 20440 predictions, every token of every window, "
                                 "which begins with <bos> (not scored)\n\nmodel "),
      0u);
}

TEST(EvaluationsText, ShowsTheReferenceAlone) {
  EXPECT_THAT(evaluations_text({evaluation("prose", 512, {})}), Not(HasSubstr("Against")));
}

TEST(EvaluationsText, HasAHeadingAnEvaluationAndTellsCachesApart) {
  const std::string text = evaluations_text(
      {evaluation(
           "prose", 512,
           {metrics("original", record::ModelKind::kNoiseFloor, 0.0001),
            cached(metrics("original", record::ModelKind::kOriginal, 0.001), "q8_0", 1 << 19)}),
       evaluation("code", 2048, {metrics("demo", kArtifact, 0.05)})});
  EXPECT_EQ(text.find("prose: 40 windows of 512 tokens\n\nmodel "), 0u);
  EXPECT_THAT(text, HasSubstr("\n\ncode: 40 windows of 2048 tokens\n\nmodel     ppl"));
  EXPECT_THAT(text, HasSubstr("\nmodel                   cache  cache MiB  ppl"));
  EXPECT_THAT(text, HasSubstr("\nnoise floor (bfloat16)  -              -  "));
  EXPECT_THAT(text, HasSubstr("\noriginal                q8_0       0.500  "));
}

TEST(FurtherResults, AreNoneOfOneTextWithoutMore) {
  EXPECT_EQ(further_results({evaluation("prose", 512, {metrics("demo", kArtifact, 0.025)})}), "");
}

TEST(FurtherResults, ShowEachTextThenTheCaches) {
  const auto demo = metrics("demo", kArtifact, 0.025);
  EXPECT_EQ(further_results({evaluation("prose", 512, {demo, cached(demo, "q8_0", 1 << 20)}),
                             evaluation("code", 512, {metrics("demo", kArtifact, 0.05)})}),
            "\n"
            "Each text\n"
            "text   model         ppl     +/-  KL mean      +/-  KL p99  top-1 %\n"
            "prose  original  20.0000  0.0625        -        -       -        -\n"
            "prose  demo      20.2500  0.0625  0.02500  0.00050  0.2000    92.75\n"
            "code   original  20.0000  0.0625        -        -       -        -\n"
            "code   demo      20.5000  0.0625  0.05000  0.00050  0.4000    92.75\n"
            "\n"
            "Key/value cache (MiB of one sequence), prose: 40 windows of 512 tokens\n"
            "model     cache  cache MiB      ppl     +/-  KL mean      +/-  KL p99  top-1 %\n"
            "original  -              -  20.0000  0.0625        -        -       -        -\n"
            "demo      -              -  20.2500  0.0625  0.02500  0.00050  0.2000    92.75\n"
            "demo      q8_0       1.000  20.2500  0.0625  0.02500  0.00050  0.2000    92.75\n");
}

TEST(TasksText, ShowsPairedDifferences) {
  record::TaskReport task{.task = "reading", .metric = "acc", .questions = 10, .chance = 0.25};
  task.models = {{.label = "original",
                  .kind = record::ModelKind::kReference,
                  .kv_cache = "",
                  .scores = {{"acc", "1111110000"}}},
                 {.label = "tiny-Q4_0",
                  .kind = record::ModelKind::kArtifact,
                  .kv_cache = "",
                  .scores = {{"acc", "1000000100"}}}};
  EXPECT_EQ(tasks_text({}), "");
  EXPECT_EQ(tasks_text({task}), R"(
Task reading (choices): 10 questions, chance 25.00 %
model      metric  right %    +/-  difference    +/-  lost  won      p
original   acc       60.00  16.33           -      -     -    -      -
tiny-Q4_0  acc       20.00  13.33      -40.00  22.11     5    1  0.219
lost, won: questions that only the original, only the model answers right. p: McNemar's exact test.
)");
}

}  // namespace
}  // namespace calque::cli
