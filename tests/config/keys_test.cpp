#include "config/keys.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "config/job_text.h"
#include "support/paths.h"

namespace calque::config {
namespace {

// A value other than the default for every key there is, by the path that --set takes.
const std::map<std::string, std::string> kOtherValues = {
    {"name", "other"},
    {"run_dir", "elsewhere"},
    {"model.path", "other"},
    {"model.allow_requantize", "true"},
    {"calibration.n_samples", "3"},
    {"calibration.seqlen", "99"},
    {"calibration.seed", "5"},
    {"calibration.packing", "truncate"},
    {"calibration.add_bos", "false"},
    {"calibration.parse_special", "false"},
    {"calibration.experts", "all"},
    {"calibration.tokens", "other.safetensors"},
    {"calibration.save_imatrix", "other.gguf"},
    {"calibration.sources.0.path", "other.txt"},
    {"calibration.sources.0.text_column", "other"},
    {"calibration.sources.0.split_on", "---"},
    {"calibration.sources.0.weight", "0.25"},
    {"calibration.sources.0.chat_template", "tool_use"},
    {"calibration.sources.0.chat_template_kwargs", "{enable_thinking: false}"},
    {"calibration.sources.0.may_run_out", "true"},
    {"calibration.sources.0.chat_date", "2020-02-29"},
    {"calibration.sources.0.chat_plain", "true"},
    {"quantization.preset", "best"},
    {"quantization.transform", "awq"},
    {"quantization.rounding", "gptq"},
    {"quantization.bits", "3"},
    {"quantization.group_size", "32"},
    {"quantization.sym", "false"},
    {"quantization.scale_rule", "minmax"},
    {"quantization.act_order", "false"},
    {"quantization.damp_percent", "0.5"},
    {"quantization.damp_auto_increment", "0.5"},
    {"quantization.refine_passes", "5"},
    {"quantization.propagate_error", "false"},
    {"quantization.upstream_correction", "0.5"},
    {"quantization.imatrix", "other.dat"},
    {"quantization.target_bpw", "3.25"},
    {"quantization.target_size", "4GiB"},
    {"quantization.allocation.options", "[Q2_K, Q4_K]"},
    {"quantization.allocation.sensitivity", "layer"},
    {"quantization.allocation.samples", "7"},
    {"quantization.allocation.windows", "3"},
    {"quantization.fallback.max_modules", "1"},
    {"quantization.awq.loss", "output"},
    {"quantization.awq.n_grid", "10"},
    {"quantization.smoothquant.alpha", "0.8"},
    {"quantization.rules.0.match", "other"},
    {"quantization.rules.0.bits", "8"},
    {"quantization.rules.0.group_size", "32"},
    {"quantization.rules.0.sym", "true"},
    {"quantization.rules.0.skip", "false"},
    {"quantization.rules.0.allow_no_match", "true"},
    {"export.0.path", "other"},
    {"export.0.overwrite", "true"},
    {"export.0.checkpoint_format", "gptq_v2"},
    {"export.0.max_shard_size", "1GB"},
    {"export.0.desc_act", "true"},
    {"export.0.scale_dtype", "bfloat16"},
    {"export.2.scheme", "FP8_DYNAMIC"},
    {"export.2.activations", "int8_token"},
    {"export.2.kv_cache", "fp8_head"},
    {"export.0.require", "{vllm: true, tensor_parallel: [1, 2]}"},
    {"publish.model_card", "false"},
    {"publish.base_model", "org/other"},
    {"publish.license", "mit"},
    {"publish.quantized_by", "other"},
    {"publish.checksums", "false"},
    {"export.1.type", "Q8_0"},
    {"export.1.embedding_type", "F16"},
    {"export.1.output_type", "F16"},
    {"export.1.tensor_types", "[{match: 'ffn_down', type: Q6_K}, {match: attn_v, type: Q8_0}]"},
    {"export.1.pure", "true"},
    {"export.1.on_shape_fallback", "allow"},
    {"export.1.split_max_size", "2GB"},
    {"export.1.pre", "other"},
    {"runtime.threads", "2"},
    {"runtime.forward_dtype", "float32"},
    {"runtime.device", "cpu"},
    {"runtime.max_ram", "6GiB"},
    {"runtime.offload_dir", "other"},
    {"runtime.checkpoint", "block"},
    {"runtime.stages.forward", "cuda:1"},
    {"runtime.stages.statistics", "cuda"},
    {"runtime.stages.transform", "cpu"},
    {"runtime.stages.quantize", "auto"},
    {"runtime.stages.pack", "cpu"},
    {"evaluate.seqlen", "99"},
    {"evaluate.windows", "1"},
    {"evaluate.dtype", "auto"},
    {"evaluate.add_bos", "false"},
    {"evaluate.noise_floor", "true"},
    {"evaluate.kv_cache_seqlens", "[64, 0]"},
    {"evaluate.texts.0.name", "other"},
    {"evaluate.texts.0.text", "other.txt"},
    {"evaluate.texts.0.tokens", "other.safetensors"},
    {"evaluate.texts.0.windows", "7"},
    {"evaluate.texts.0.chat_template", "tool_use"},
    {"evaluate.texts.0.chat_template_kwargs", "{enable_thinking: false}"},
    {"evaluate.texts.0.chat_date", "2020-02-29"},
    {"evaluate.texts.0.chat_plain", "true"},
    {"evaluate.tasks.0.name", "other"},
    {"evaluate.tasks.0.file", "other.jsonl"},
    {"evaluate.tasks.0.limit", "5"},
    {"evaluate.tasks.0.metric", "acc_bytes"},
    {"evaluate.tasks.0.before", "'Answer:\\n'"},
    {"evaluate.tasks.0.delimiter", "null"},
    {"evaluate.tasks.0.template", "true"},
    {"evaluate.tasks.0.max_new_tokens", "5"},
    {"evaluate.tasks.0.stop", "[Q, \"\\n\\n\"]"},
    {"evaluate.tasks.0.answer_pattern", "'-?\\d+'"},
    {"evaluate.tasks.0.last_match", "true"},
    {"evaluate.tasks.0.chat_template", "tool_use"},
    {"evaluate.tasks.0.chat_template_kwargs", "{enable_thinking: false}"},
    {"evaluate.tasks.0.chat_date", "2020-02-29"},
    {"evaluate.tasks.0.chat_plain", "true"},
    {"evaluate.kv_cache.0.name", "other"},
    {"evaluate.kv_cache.0.k_type", "fp8"},
    {"evaluate.kv_cache.0.v_type", "f16"},
    {"evaluate.kv_cache.0.layers", "'0-3,7'"},
};

// Settings that exclude a key and must be removed with it.
const std::map<std::string, std::vector<std::string>> kTogetherWith = {
    {"calibration.tokens", {"calibration.sources=null"}},
};

constexpr const char* kBaseJob = R"(version: 1
name: base
model: {path: m}
calibration: {sources: [{path: a.txt}]}
quantization: {rounding: rtn, rules: [{match: lm_head}]}
export:
  - {format: gptq, path: o}
  - {format: gguf, path: o.gguf}
  - {format: compressed-tensors, path: c}
evaluate:
  texts: [{name: b, text: b.txt}]
  tasks: [{name: d, file: d.jsonl}]
  kv_cache: [{name: c, k_type: q8_0}]
run_dir: r
)";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> changed_lines(const std::string& before, const std::string& after) {
  const std::vector<std::string> old_lines = lines_of(before);
  std::vector<std::string> changed;
  for (const std::string& line : lines_of(after))
    if (std::find(old_lines.begin(), old_lines.end(), line) == old_lines.end())
      changed.push_back(line);
  return changed;
}

// The places where --set can reach a key of `section` in kBaseJob.
std::vector<std::string> paths_of(const Section& section, const Key& key) {
  if (!section.list) return {join_path(section.path, key.name)};
  return {section.path + ".0." + key.name, section.path + ".1." + key.name,
          section.path + ".2." + key.name};
}

TEST(Keys, EachChangesTheJobAndItsLineOfTheResolvedYaml) {
  const JobFolder folder;
  const std::string base = resolved_yaml(folder.load(kBaseJob));
  for (const auto& [path, value] : kOtherValues) {
    std::vector<std::string> sets = {path + "=" + value};
    if (const auto extra = kTogetherWith.find(path); extra != kTogetherWith.end())
      sets.insert(sets.end(), extra->second.begin(), extra->second.end());
    // resolved_yaml only sees the Job, so a changed line is a changed Job.
    const auto changed = changed_lines(base, resolved_yaml(folder.load(kBaseJob, sets)));
    const std::string name = path.substr(path.rfind('.') + 1);
    const bool its_line = std::any_of(changed.begin(), changed.end(), [&](const std::string& line) {
      return line.find(name + ": ") != std::string::npos;
    });
    EXPECT_TRUE(its_line) << path;
    // Settings removed with the key show as "sources: []" or "text: null".
    EXPECT_EQ(changed.size(), sets.size()) << path;
  }
}

TEST(Keys, FormatDecidesWhichOtherKeysThereAre) {
  const JobFolder folder;
  const std::string base = resolved_yaml(folder.load(kBaseJob));
  const std::string changed =
      resolved_yaml(folder.load(kBaseJob, {"export.0.format=gguf", "export.2.format=gguf"}));
  EXPECT_EQ(base.find("type: Q4_0"), base.rfind("type: Q4_0"));
  EXPECT_NE(changed.find("type: Q4_0"), changed.rfind("type: Q4_0"));
  EXPECT_EQ(changed.find("max_shard_size"), std::string::npos);
}

TEST(Keys, NoneIsMissingFromTheTestAbove) {
  const std::set<std::string> tested_elsewhere = {"version", "export.0.format",
                                                  "quantization.method"};
  for (const Section& section : sections())
    for (const Key& key : section.keys) {
      bool tested = false;
      for (const std::string& path : paths_of(section, key))
        tested = tested || kOtherValues.count(path) || tested_elsewhere.count(path);
      EXPECT_TRUE(tested || !key.documented) << join_path(section.path, key.name);
    }
}

TEST(Keys, HaveNamesOfTheirOwnInEverySection) {
  for (const Section& section : sections()) {
    std::set<std::string> names;
    for (const Key& key : section.keys) EXPECT_TRUE(names.insert(key.name).second) << key.name;
    for (const Key& key : section.keys) EXPECT_FALSE(key.doc.empty()) << key.name;
  }
}

TEST(KeyReference, IsWhatTheReadmeOfTheJobFileSays) {
  const std::string readme_path = test::configs() + "/README.md";
  std::ifstream file(readme_path);
  std::stringstream readme;
  readme << file.rdbuf();
  EXPECT_NE(readme.str().find(key_reference()), std::string::npos)
      << readme_path << " is out of date; replace its tables by the output of `calque schema`";
}

TEST(KeyReference, ListsEveryKey) {
  const std::string reference = key_reference();
  for (const Section& section : sections())
    for (const Key& key : section.keys) {
      if (!key.documented) continue;
      EXPECT_NE(reference.find(fmt::format("| `{}` | ", key.name)), std::string::npos) << key.name;
    }
}

TEST(DemoJob, Loads) {
  const job::Job job = load_job(test::configs() + "/demo.yaml");
  EXPECT_EQ(job.name, "demo");
  EXPECT_GE(job.exports.size(), 2u);
}

}  // namespace
}  // namespace calque::config
