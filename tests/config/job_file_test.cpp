#include "calque/config/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "calque/job/builtin_texts.h"
#include "config/job_text.h"

namespace calque::config {
namespace {

constexpr const char* kFullJob = R"(version: 1
name: everything
model: {path: ../models/llama/}
calibration:
  n_samples: 64
  seqlen: 256
  seed: 7
  packing: pad
  add_bos: false
  parse_special: false
  sources:
    - {path: prose.txt, split_on: "\n\n\n", weight: 0.5}
    - {path: /data/x.jsonl.zst, text_column: content}
quantization:
  method: gptq
  bits: 3
  group_size: -1
  sym: false
  scale_rule: full_range
  act_order: false
  damp_percent: 0.05
  damp_auto_increment: 0
  refine_passes: 1
  propagate_error: false
  fallback: {max_modules: 2}
export:
  - {format: gptq, path: out/a, checkpoint_format: gptq_v2, max_shard_size: 500MB, overwrite: true}
  - {format: gguf, path: out/a.gguf, type: Q5_1, embedding_type: F16, output_type: Q4_0, pre: qwen2}
runtime: {threads: 3, forward_dtype: bfloat16, device: "cuda:1"}
evaluate: {texts: [{text: held.txt}], seqlen: 128, windows: 0, dtype: bfloat16}
run_dir: runs/everything
)";

TEST(LoadJob, StoresEveryValueWhereThePipelineReadsIt) {
  const JobFolder folder;
  const job::Job job = folder.load(kFullJob);
  EXPECT_EQ(job.name, "everything");
  EXPECT_EQ(job.model.path, folder.path().parent_path() / "models/llama");
  EXPECT_EQ(job.run_dir, folder.path() / "runs/everything");

  const text::PackingOptions& packing = job.calibration.packing;
  EXPECT_EQ(packing.n_samples, 64);
  EXPECT_EQ(packing.seqlen, 256);
  EXPECT_EQ(packing.seed, 7u);
  EXPECT_EQ(packing.packing, text::Packing::kPad);
  EXPECT_FALSE(packing.add_bos);
  EXPECT_FALSE(packing.parse_special);
  ASSERT_EQ(job.calibration.sources.size(), 2u);
  EXPECT_EQ(job.calibration.sources[0].path, folder.path() / "prose.txt");
  EXPECT_EQ(job.calibration.sources[0].split_on, "\n\n\n");
  EXPECT_EQ(job.calibration.sources[0].weight, 0.5);
  EXPECT_EQ(job.calibration.sources[1].path, "/data/x.jsonl.zst");
  EXPECT_EQ(job.calibration.sources[1].text_column, "content");
  EXPECT_EQ(job.calibration.sources[1].split_on, std::nullopt);

  const job::QuantizationSettings& quantization = job.quantization;
  EXPECT_EQ(quantization.transform, &quant::kNoTransform);
  EXPECT_EQ(quantization.rounding, &quant::kGptq);
  EXPECT_EQ(quantization.grid.bits, 3);
  EXPECT_EQ(quantization.grid.group_size, -1);
  EXPECT_FALSE(quantization.grid.sym);
  EXPECT_EQ(quantization.scale_rule, ScaleRule::kFullRange);
  EXPECT_FALSE(quantization.options.act_order);
  EXPECT_EQ(quantization.options.damp_percent, 0.05);
  EXPECT_EQ(quantization.options.damp_auto_increment, 0);
  EXPECT_EQ(quantization.refine_passes, 1);
  EXPECT_FALSE(quantization.propagate_error);
  EXPECT_EQ(quantization.fallback_max_modules, 2);

  ASSERT_EQ(job.exports.size(), 2u);
  EXPECT_EQ(job.exports[0].format, "gptq");
  EXPECT_EQ(job.exports[0].path, folder.path() / "out/a");
  EXPECT_EQ(job.exports[0].checkpoint_format, "gptq_v2");
  EXPECT_EQ(job.exports[0].max_shard_bytes, 500'000'000u);
  EXPECT_TRUE(job.exports[0].overwrite);
  EXPECT_EQ(job.exports[1].format, "gguf");
  EXPECT_EQ(job.exports[1].type, "Q5_1");
  EXPECT_EQ(job.exports[1].embedding_type, "F16");
  EXPECT_EQ(job.exports[1].output_type, "Q4_0");
  EXPECT_EQ(job.exports[1].pre, "qwen2");
  EXPECT_FALSE(job.exports[1].overwrite);

  EXPECT_EQ(job.runtime.threads, 3);
  EXPECT_EQ(job.runtime.forward_dtype, "bfloat16");
  EXPECT_EQ(job.runtime.device, "cuda:1");
  ASSERT_TRUE(job.evaluate);
  EXPECT_EQ(job.evaluate->texts.at(0).text, folder.path() / "held.txt");
  EXPECT_EQ(job.evaluate->seqlen, 128);
  EXPECT_EQ(job.evaluate->windows, 0);
  EXPECT_EQ(job.evaluate->dtype, "bfloat16");
}

TEST(LoadJob, LeavesTheDefaultsOfTheStructsWhereTheFileIsSilent) {
  const JobFolder folder;
  const job::Job job = folder.load(kSmallJob);
  const job::QuantizationSettings defaults;
  EXPECT_EQ(job.quantization.grid.bits, defaults.grid.bits);
  EXPECT_EQ(job.quantization.options.damp_percent, defaults.options.damp_percent);
  EXPECT_EQ(job.calibration.packing.n_samples, 128);
  EXPECT_FALSE(job.calibration.given());
  EXPECT_FALSE(job.evaluate);
  EXPECT_EQ(job.runtime.threads, 0);
}

TEST(LoadJob, TakesAMethodAsShortForTwoKeys) {
  const JobFolder folder;
  const auto loaded = [&](const std::string& keys) {
    return folder
        .load(
            "version: 1\nmodel: {path: m}\ncalibration: {tokens: t.safetensors}\nquantization: {" +
            keys + "}\nexport: [{format: gptq, path: o}]\n")
        .quantization;
  };
  for (const auto& [keys, transform, rounding] :
       {std::tuple{"method: rtn", &quant::kNoTransform, &quant::kRtn},
        {"method: gptq", &quant::kNoTransform, &quant::kGptq},
        {"method: awq", &quant::kAwq, &quant::kGptq},
        {"method: smoothquant", &quant::kSmoothQuant, &quant::kGptq},
        {"rounding: rtn, method: awq", &quant::kAwq, &quant::kRtn},
        {"transform: awq", &quant::kAwq, &quant::kGptq},
        {"awq: {rounding: rtn}, method: awq", &quant::kAwq, &quant::kRtn},
        {"awq: {rounding: gptq}, method: rtn", &quant::kNoTransform, &quant::kRtn}}) {
    EXPECT_EQ(loaded(keys).transform, transform) << keys;
    EXPECT_EQ(loaded(keys).rounding, rounding) << keys;
  }
}

// awq once had its own key for the rounding.
TEST(LoadJob, ChoosesTheScaleRuleByTheTransform) {
  job::QuantizationSettings settings;
  EXPECT_EQ(settings.rounding_options().scale_rule, ScaleRule::kSearch);
  settings.set_method("awq");
  EXPECT_EQ(settings.rounding_options().scale_rule, ScaleRule::kBlockSearch);
  EXPECT_EQ(settings.plain_options().scale_rule, ScaleRule::kSearch);
  settings.scale_rule = ScaleRule::kMinMax;
  EXPECT_EQ(settings.rounding_options().scale_rule, ScaleRule::kMinMax);
}

TEST(ResolvedYaml, IsTheSameHoweverTheMethodWasWritten) {
  const JobFolder folder;
  const std::string head =
      "version: 1\nname: x\nmodel: {path: m}\nexport: [{format: gptq, path: o}]\n";
  EXPECT_EQ(resolved_yaml(folder.load(head + "quantization: {method: rtn}\n")),
            resolved_yaml(folder.load(head + "quantization: {rounding: rtn}\n")));
}

TEST(LoadJob, NamesTheJobAfterModelMethodAndBits) {
  const JobFolder folder;
  const job::Job job = folder.load(kSmallJob);
  EXPECT_EQ(job.name, "tiny-rtn-4bit");
  EXPECT_EQ(job.run_dir, folder.path() / "runs/tiny-rtn-4bit");
}

TEST(LoadJob, TakesEmptySectionsAsTheirDefaults) {
  const JobFolder folder;
  const job::Job job = folder.load(kSmallJob + "calibration:\nruntime:\nevaluate:\n");
  EXPECT_FALSE(job.evaluate);
  EXPECT_EQ(job.calibration.packing.seqlen, 512);
}

TEST(LoadJob, ReadsWindowsLineEndsAndAByteOrderMark) {
  const JobFolder folder;
  std::string yaml = "\xef\xbb\xbf";
  for (const char c : kSmallJob) yaml += c == '\n' ? std::string("\r\n") : std::string(1, c);
  EXPECT_EQ(folder.load(yaml).name, "tiny-rtn-4bit");
}

TEST(ResolvedYaml, LoadsBackToTheSameJob) {
  const JobFolder folder;
  const JobFolder elsewhere;  // resolved paths are absolute, so the folder must not matter
  for (const std::string& yaml : {std::string(kFullJob), kSmallJob}) {
    const std::string resolved = resolved_yaml(folder.load(yaml));
    EXPECT_EQ(resolved_yaml(elsewhere.load(resolved)), resolved);
  }
}

TEST(ResolvedYaml, SaysWhatIsLeftOut) {
  const JobFolder folder;
  const std::string resolved = resolved_yaml(folder.load(kSmallJob));
  EXPECT_NE(resolved.find("\nevaluate: null\n"), std::string::npos) << resolved;
  EXPECT_NE(resolved.find("\n  sources: []\n"), std::string::npos) << resolved;
  EXPECT_NE(resolved.find("\n  group_size: 128\n"), std::string::npos) << resolved;
}

TEST(JobFile, TheWordBuiltinMeansCalquesOwnTexts) {
  const JobFolder folder;
  const job::Job job = folder.load(kSmallJob +
                                   "calibration:\n  sources:\n    - builtin\n    - {path: "
                                   "mine.txt, weight: 0.25}\n");
  std::vector<std::string> names;
  for (const text::TextSource& source : job.calibration.sources)
    names.push_back(job::name_of_source(source));
  EXPECT_THAT(names, ::testing::IsSupersetOf({"builtin/prose.txt", "builtin/dialogues.jsonl",
                                              "builtin/languages.txt.zst", "mine.txt"}));
  double sum = 0;
  for (const text::TextSource& source : job.calibration.sources) sum += source.weight;
  EXPECT_EQ(job.calibration.sources.back().weight, 0.25);
  EXPECT_NEAR(sum, 1, 1e-12);
  // The resolved job has the files, and records name them alike.
  const job::Job again = folder.load(resolved_yaml(job));
  EXPECT_EQ(again.calibration.file_names(), job.calibration.file_names());
  EXPECT_EQ(resolved_yaml(again), resolved_yaml(job));
}

TEST(JobFile, TheWordBuiltinWithAKindMeansTextsOfThisKind) {
  const JobFolder folder;
  const job::Job job =
      folder.load(kSmallJob + "calibration: {sources: [builtin:speeches, \"builtin:code\"]}\n");
  EXPECT_THAT(job.calibration.file_names(),
              ::testing::ElementsAre("builtin/speeches.txt", "builtin/code.txt",
                                     "builtin/programs.txt.zst"));
  EXPECT_EQ(job.calibration.sources[0].weight, 0.5);  // each entry has the same share
  EXPECT_THAT(folder.refusal(kSmallJob + "calibration: {sources: [\"builtin:poems\"]}\n"),
              ::testing::AllOf(::testing::HasSubstr("error[E107]: builtin has no texts of the kind "
                                                    "'poems'; its kinds: prose, "),
                               ::testing::HasSubstr("job.yaml:7:")));
}

TEST(JobFile, TheWordBuiltinMeansCalquesOwnTasks) {
  const JobFolder folder;
  const job::Job job = folder.load(
      kSmallJob +
      "evaluate:\n  tasks: [builtin, {file: mine.jsonl, stop: [\"\\n\", \"Q:\"], delimiter: "
      "null}]\n");
  ASSERT_EQ(job.evaluate->tasks.size(), 3u);
  EXPECT_EQ(job.evaluate->tasks[0].name, "reading");
  EXPECT_EQ(job.evaluate->tasks[1].answer_pattern, "-?\\d+");
  EXPECT_THAT(job.evaluate->tasks[2].stop, ::testing::ElementsAre("\n", "Q:"));
  EXPECT_EQ(job.evaluate->tasks[2].format.delimiter, "");
  const std::string resolved = resolved_yaml(job);
  EXPECT_EQ(resolved_yaml(folder.load(resolved)), resolved);
}

}  // namespace
}  // namespace calque::config
