#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "calque/model/config.h"
#include "calque/model/family.h"
#include "cli/run_program.h"

// Memory and disk use of a job, and its behavior if there is too little of either. Each job runs in
// a separate process.

namespace calque::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A Llama of `layers` layers with 4.2 million weights, 8 MiB of bf16, each. The values do not
// matter.
void write_model(const std::filesystem::path& folder, Index layers, Index hidden = 512,
                 Index vocabulary = 600) {
  std::filesystem::create_directories(folder);
  write(folder / "config.json",
        fmt::format(R"({{"architectures": ["LlamaForCausalLM"], "model_type": "llama",
 "hidden_size": {}, "intermediate_size": 2048, "num_hidden_layers": {}, "num_attention_heads": 4,
 "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
 "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true, "vocab_size": {},
 "torch_dtype": "bfloat16"}})",
                    hidden, layers, vocabulary));
  std::vector<io::TensorDeclaration> declared;
  for (const model::TensorSpec& tensor : model::family_of(model::load_config(folder)).tensors())
    declared.push_back({tensor.name, DType::kBF16, tensor.shape});
  io::SafetensorsWriter writer(folder, declared);
  for (const io::TensorDeclaration& tensor : declared) {
    std::vector<BFloat16> values(tensor.byte_count() / sizeof(BFloat16));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = to_bfloat16(
          tensor.shape.size() == 1 ? 1.0f : 0.1f * std::sin(static_cast<float>(i % 99991) * 1.7f));
    writer.write(tensor.name, std::as_bytes(std::span(values)));
  }
  writer.finish();
}

void write_tokens(const std::filesystem::path& folder, Index rows, Index seqlen) {
  std::filesystem::create_directories(folder);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows * seqlen));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7919 % 600);
  io::SafetensorsWriter writer(folder, {{"input_ids", DType::kI32, {rows, seqlen}}});
  writer.write("input_ids", std::as_bytes(std::span(ids)));
  writer.finish();
}

class Resources : public ::testing::Test {
 protected:
  // A GPTQ job; `more` holds its other settings.
  std::string job(const std::string& method, const std::string& exports,
                  const std::string& more = "") {
    write(
        folder_ / "job.yaml",
        fmt::format("version: 1\nname: test\nmodel: {{path: model}}\n"
                    "quantization: {{method: {}, bits: 8, group_size: 128}}\n"
                    "export: [{}]\nrun_dir: run\nruntime: {{threads: 2, forward_dtype: float32}}\n"
                    "publish: {{model_card: false}}\n{}",
                    method, exports, more));
    return shell_quoted(folder_ / "job.yaml") + " --progress none";
  }
  static std::string calibration(Index rows, Index seqlen) {
    return fmt::format(
        "calibration: {{tokens: tokens/model.safetensors, n_samples: {}, seqlen: {}}}\n", rows,
        seqlen);
  }

  std::uint64_t peak_bytes_of(Index layers) {
    write_model(folder_ / "model", layers);
    const Outcome outcome = run(
        "run " + job("gptq", "{format: gptq, path: out, overwrite: true}", calibration(8, 128)));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const auto metrics = io::parse_json(contents_of(folder_ / "run/metrics.json"));
    return metrics.at("peak_bytes").get<std::uint64_t>();
  }

  testing::TempFolder folder_;
};

// Four more layers are 32 MiB of bf16 in the source, 64 MiB as fp32 and 16 MiB of 8-bit codes. None
// of these may stay in memory.
TEST_F(Resources, APeakDoesNotGrowWithTheLayers) {
  write_tokens(folder_ / "tokens", 8, 128);
  const std::uint64_t two = peak_bytes_of(2), six = peak_bytes_of(6);
  std::printf("peak: %.1f MiB with 2 layers, %.1f MiB with 6\n", std::ldexp(double(two), -20),
              std::ldexp(double(six), -20));
  EXPECT_LT(six, two + (std::uint64_t{12} << 20));
}

// Hidden states of 32 MiB and 128 MiB kept by a block do not fit next to the factorization. Of data
// in files, only the rows being worked on count.
TEST_F(Resources, APeakWithActivationsInFilesIsPredicted) {
  write_model(folder_ / "model", 2);
  write_tokens(folder_ / "tokens", 32, 512);
  const Outcome outcome = run("run --set runtime.max_ram=180.5MiB " +
                              job("gptq", "{format: gptq, path: out}", calibration(32, 512)));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto metrics = io::parse_json(contents_of(folder_ / "run/metrics.json"));
  const double predicted = metrics.at("predicted").at("peak_bytes").number();
  const double measured = metrics.at("peak_bytes").number();
  EXPECT_GT(metrics.at("activation_file_bytes").integer(), 0);
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_NEAR(std::ldexp(measured - predicted, -20), 0.0, 40.0) << "MiB; measured " << measured;
#endif
}

// Words of the letters a to p; each but those of one letter is a merge of a word and a letter.
void write_tokenizer(const std::filesystem::path& folder, std::size_t tokens) {
  std::vector<std::string> words;
  std::string vocabulary, merges;
  for (std::size_t i = 0; words.size() < tokens; ++i) {
    const std::string stem = i < 16 ? "" : words[i / 16 - 1];
    const std::string letter(1, static_cast<char>('a' + i % 16));
    words.push_back(stem + letter);
    vocabulary += fmt::format("{}\"{}\": {}", i == 0 ? "" : ",\n", words.back(), i);
    if (!stem.empty())
      merges += fmt::format("{}[\"{}\", \"{}\"]", i == 16 ? "" : ",\n", stem, letter);
  }
  write(folder / "tokenizer.json",
        fmt::format(R"({{"added_tokens": [], "normalizer": null, "post_processor": null,
 "pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}},
 "decoder": {{"type": "ByteLevel"}},
 "model": {{"type": "BPE", "vocab": {{{}}}, "merges": [{}]}}}})",
                    vocabulary, merges));
}

// Most of the memory is the tokenizer's, which a GGUF file stores: 262,144 tokens and merges.
TEST_F(Resources, APeakWithALargeVocabularyIsPredicted) {
  write_model(folder_ / "model", 1, 64, 262144);
  write_tokenizer(folder_ / "model", 262144);
  const Outcome outcome = run("run " + job("rtn", "{format: gguf, type: Q8_0, path: out.gguf}"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto metrics = io::parse_json(contents_of(folder_ / "run/metrics.json"));
  const double predicted = metrics.at("predicted").at("peak_bytes").number();
  const double measured = metrics.at("peak_bytes").number();
  std::printf("peak: predicted %.1f MiB, measured %.1f MiB\n", std::ldexp(predicted, -20),
              std::ldexp(measured, -20));
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_NEAR(std::ldexp(measured - predicted, -20), 0.0, 40.0);
#endif
}

// The hidden states of 4 million tokens take 8 GiB, more than the process may use.
TEST_F(Resources, OutOfMemoryIsFourAndTellsWhatNeedsLess) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer reserves more address space than any limit";
#endif
  write_model(folder_ / "model", 1);
  write_tokens(folder_ / "tokens", 2048, 2048);
  const Outcome outcome =
      run("run " + job("gptq", "{format: gptq, path: out}", calibration(2048, 2048)),
          "ulimit -v 6000000;");
  EXPECT_EQ(outcome.exit_code, 4) << outcome.err;
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("error[E304]: embedding: out of memory: 8589934592 bytes wanted\n"),
                    HasSubstr("runtime.max_ram"), HasSubstr("calibration.n_samples")));
  for (const char* name : {"out", "out.partial"})
    EXPECT_FALSE(std::filesystem::exists(folder_ / name)) << name;
}

// The Q4_0 file (2.7 MB) fits the limit, the folder of 8 bits (5 MB) does not. sh counts in 512
// bytes.
TEST_F(Resources, AFullDiskKeepsTheExportsThatAreFinished) {
  write_model(folder_ / "model", 1);
  const Outcome outcome = run("run " + job("rtn",
                                           "{format: gguf, path: small.gguf, type: Q4_0}, "
                                           "{format: gptq, path: large}"),
                              "ulimit -f 7000;");
  EXPECT_EQ(outcome.exit_code, 4) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("error[E302]: "), HasSubstr("large"),
                                 HasSubstr(" bytes wanted, "), HasSubstr(" bytes free")));
  EXPECT_EQ(run("verify " + shell_quoted(folder_ / "small.gguf")).exit_code, 0);
  for (const char* name : {"large", "large.partial", "small.gguf.partial"})
    EXPECT_FALSE(std::filesystem::exists(folder_ / name)) << name;
}

}  // namespace
}  // namespace calque::cli
