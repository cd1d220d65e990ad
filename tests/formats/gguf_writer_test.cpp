#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <span>

#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/sha256.h"
#include "formats/gguf_config.h"
#include "formats/gguf_tensors.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::ElementsAre;
using testing::error_of;
using testing::expect_same;
using ::testing::HasSubstr;
using testing::TinyModel;
using testing::write_random;

ExportRequest mixed_gguf(const fs::path& path, const std::string& type) {
  ExportRequest request;
  request.format = "gguf";
  request.path = path;
  request.type = type;
  request.embedding_type = "Q8_0";
  request.output_type = "Q5_1";
  return request;
}

const char* kLlama3 = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64})";

// A negative scale times 0 is -0, and with an offset 0.
std::string sha256_of_values(Matrix<float> values) {
  for (Index i = 0; i < values.size(); ++i) values.data()[i] += 0.0f;
  return testing::sha256_of(values);
}

class GgufRoundTrip : public ::testing::TestWithParam<std::string> {};

TEST_P(GgufRoundTrip, GivesBackCodesScalesAndOffsets) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  const ExportPlan plan = model.plan(mixed_gguf(folder / "out.gguf", GetParam()));
  const text::Vocabulary vocabulary = testing::tiny_vocabulary(40);
  const auto written = write_random(plan, model.inputs(&vocabulary));
  const auto reader = open_artifact(folder / "out.gguf");
  EXPECT_EQ(written.size(), 16u);
  for (const auto& [name, q] : written) {
    SCOPED_TRACE(name);
    const auto read = reader->quantized(name);
    ASSERT_TRUE(read.has_value());
    expect_same(*read, q);
    EXPECT_EQ(sha256_of_values(reader->load(name)), sha256_of_values(quant::dequantize(q)));
  }
  std::uint64_t bytes = 0;
  for (const StoredTensor& tensor : reader->tensors()) bytes += tensor.bytes;
  EXPECT_EQ(bytes, plan.tensor_bytes);
  EXPECT_DOUBLE_EQ(reader->bits_per_weight(), plan.bits_per_weight);
}

INSTANTIATE_TEST_SUITE_P(All, GgufRoundTrip,
                         ::testing::Values("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"),
                         [](const auto& tested) { return tested.param; });

class GgufBlocks : public ::testing::TestWithParam<std::string> {};

// Rows of two heads: a llama file takes row 0, 16, 1, 17, ... of each head of 32 (or more) rows.
std::vector<std::byte> stored_rows(const quant::QuantizedMatrix& q, Index heads) {
  std::vector<std::byte> bytes;
  const Index N = q.out_features();
  for (Index r = 0; r < N; ++r) {
    Index n = r;
    if (heads > 0) {
      const Index head_rows = N / heads;
      n = r / head_rows * head_rows + r % 2 * (head_rows / 2) + r % head_rows / 2;
    }
    const auto row =
        std::as_bytes(std::span(q.blocks().rows_NB.row(n), q.blocks().rows_NB.row(n + 1)));
    bytes.insert(bytes.end(), row.begin(), row.end());
  }
  return bytes;
}

TEST_P(GgufBlocks, StoresTheRowsAsTheyAreAndIsReadBackToTheirValues) {
  const TempFolder folder;
  TinyModel::Options options;
  options.hidden = 256;
  options.intermediate = 512;
  const TinyModel model(folder / "Tiny", options);
  ExportRequest request = mixed_gguf(folder / "out.gguf", GetParam());
  request.output_type = "auto";
  const ExportPlan plan = model.plan(request);
  const auto written = write_random(plan, model.inputs());
  const io::GgufFile file(folder / "out.gguf");
  const auto reader = open_artifact(folder / "out.gguf");
  std::size_t blocks = 0;
  for (const auto& [name, q] : written) {
    SCOPED_TRACE(name);
    const Matrix<float> values = quant::dequantize(q);
    const Matrix<float> read = reader->load(name);
    ASSERT_EQ(read.size(), values.size());
    // Not their bits: the reader gives zeros of the other sign where a scale is negative.
    for (Index i = 0; i < values.size(); ++i) ASSERT_EQ(read.data()[i], values.data()[i]) << i;
    if (!q.grid.block) continue;
    ++blocks;
    const model::TensorSpec& tensor = plan.at(name).tensor;
    const auto stored = file.find_tensor(tensor.gguf_name)->bytes;
    const auto expected = stored_rows(q, tensor.gguf_permuted_heads);
    EXPECT_TRUE(std::equal(stored.begin(), stored.end(), expected.begin(), expected.end()));
  }
  EXPECT_GE(blocks, 14u);  // all but the embedding, which is Q8_0 here
  EXPECT_EQ(reader->bits_per_weight(), plan.bits_per_weight);
}

quant::QuantizedMatrix rows_of(const quant::QuantizedMatrix& q, Index first, Index count) {
  quant::QuantizedMatrix part;
  part.grid = q.grid;
  part.stored =
      quant::BlockRows{Matrix<std::uint8_t>::copy_of(q.blocks().rows_NB.view().rows(first, count))};
  return part;
}

// Rows of attn_q and attn_k move to other places in the file.
TEST_P(GgufBlocks, TakesRowsInPiecesAndInAnyOrder) {
  const TempFolder folder;
  TinyModel::Options options;
  options.hidden = 256;
  options.intermediate = 512;
  const TinyModel model(folder / "Tiny", options);
  ExportRequest request = mixed_gguf(folder / "whole.gguf", GetParam());
  const auto written = write_random(model.plan(request), model.inputs());
  request.path = folder / "pieces.gguf";
  const ExportPlan plan = model.plan(request);
  const auto writer = open_writer(plan, model.inputs());
  for (const auto& [name, q] : written) {
    if (!q.grid.block) {
      writer->write(name, q);
      continue;
    }
    const Index cut = q.out_features() / 2 + 1;
    writer->write_rows(name, cut, rows_of(q, cut, q.out_features() - cut));
    writer->write_rows(name, 0, rows_of(q, 0, cut));
    EXPECT_THAT(error_of([&] { writer->write_rows(name, 0, rows_of(q, 0, 1)); }).what(),
                HasSubstr("given to the writer twice"));
  }
  writer->finish();
  EXPECT_EQ(io::sha256_hex_of_file(folder / "pieces.gguf"),
            io::sha256_hex_of_file(folder / "whole.gguf"));
}

INSTANTIATE_TEST_SUITE_P(All, GgufBlocks,
                         ::testing::Values("Q2_K", "Q3_K_L", "Q4_K_M", "Q5_K_S", "Q6_K", "IQ4_NL",
                                           "IQ4_XS", "TQ1_0", "TQ2_0"),
                         [](const auto& tested) { return tested.param; });

class GgufPlain : public ::testing::TestWithParam<std::string> {};

// The model's BF16 values are F32 values, and its normal ones with 8 bits of mantissa are F16 ones.
TEST_P(GgufPlain, KeepsEveryValueOfTheSource) {
  for (const char* architecture :
       {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    const TempFolder folder;
    TinyModel::Options options;
    options.architecture = architecture;
    options.attention_bias = std::string(architecture) == "LlamaForCausalLM";
    options.tied = std::string(architecture) == "Qwen2ForCausalLM";
    const TinyModel model(folder / "Tiny", options);
    write_random(model.plan(mixed_gguf(folder / "out.gguf", GetParam())), model.inputs());
    const auto reader = open_artifact(folder / "out.gguf");
    for (const model::TensorSpec& tensor : model.family().tensors()) {
      const Matrix<float> source = model.source().load(tensor.name);
      const Matrix<float> read = reader->load(tensor.name);
      ASSERT_EQ(read.size(), source.size());
      // Values below the normal range of F16 lose bits there: half of its smallest step.
      const float slack = GetParam() == "F16" ? 0x1p-25f : 0.0f;
      for (Index i = 0; i < source.size(); ++i)
        ASSERT_NEAR(read.data()[i], source.data()[i], slack) << architecture << tensor.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgufPlain, ::testing::Values("F32", "F16", "BF16"),
                         [](const auto& tested) { return tested.param; });

TEST(GgufWriter, StoresNormsAndBiasesAsF32) {
  const TempFolder folder;
  TinyModel::Options options;
  options.architecture = "Qwen2ForCausalLM";
  const TinyModel model(folder / "Tiny", options);
  write_random(model.plan(mixed_gguf(folder / "out.gguf", "F16")), model.inputs());
  const io::GgufFile file(folder / "out.gguf");
  for (const char* name : {"output_norm.weight", "blk.1.attn_norm.weight", "blk.0.ffn_norm.weight",
                           "blk.0.attn_q.bias"})
    EXPECT_EQ(file.find_tensor(name)->type, ggml::Type::kF32) << name;
}

TEST(GgufWriter, LeavesOutTheOutputOfATiedModel) {
  const TempFolder folder;
  TinyModel::Options options;
  options.tied = true;
  const TinyModel model(folder / "Tiny", options);
  ExportRequest request = mixed_gguf(folder / "out.gguf", "Q4_0");
  request.embedding_type = "auto";
  write_random(model.plan(request), model.inputs());
  const io::GgufFile file(folder / "out.gguf");
  EXPECT_EQ(file.find_tensor("output.weight"), nullptr);
  EXPECT_EQ(file.find_tensor("token_embd.weight")->type, ggml::Type::kQ5_1);
  EXPECT_TRUE(open_artifact(folder / "out.gguf")->config().tie_word_embeddings);
}

// head_dim 32, theta 10000, old context 64: pairs with wavelengths below 16 keep their frequency,
// those above 64 take the factor. Wavelength of pair i: 2 pi 10000^(2i/32): 6.28, 11.2, 19.9, 35.3,
// 62.8, 112. Pair 2: s = (64/19.869 - 1)/3 = 0.74037, divisor 1/((1-s)/8 + s) = 1.29398.
TEST(GgufWriter, WritesTheDivisorsOfLlama3RopeScaling) {
  const TempFolder folder;
  TinyModel::Options options;
  options.rope_scaling = kLlama3;
  const TinyModel model(folder / "Tiny", options);
  write_random(model.plan(mixed_gguf(folder / "out.gguf", "F32")), model.inputs());
  const io::GgufFile file(folder / "out.gguf");
  const io::GgufTensor* tensor = file.find_tensor("rope_freqs.weight");
  ASSERT_NE(tensor, nullptr);
  ASSERT_THAT(tensor->ne, ElementsAre(16u));
  std::vector<float> divisors(16);
  convert_to_float(tensor->bytes.data(), DType::kF32, 16, divisors.data());
  EXPECT_EQ(divisors[0], 1.0f);
  EXPECT_EQ(divisors[1], 1.0f);
  EXPECT_NEAR(divisors[2], 1.29398f, 2e-5f);
  EXPECT_EQ(divisors[5], 8.0f);
  EXPECT_EQ(divisors[15], 8.0f);
  EXPECT_EQ(file.find("llama.rope.scaling.type"), nullptr);
}

// The same numbers from transformers' rule for the frequencies, which the model module implements.
TEST(GgufWriter, DividesFrequenciesAsTheModelDoes) {
  model::RopeSpec rope;
  rope.theta = 500000.0;
  rope.factor = 32.0;
  const std::vector<double> plain = rope.inverse_frequencies(64);
  rope.scaling = model::RopeSpec::Scaling::kLlama3;
  const std::vector<double> scaled = rope.inverse_frequencies(64);
  const std::vector<float> divisors = llama3_divisors(rope, 64);
  ASSERT_EQ(divisors.size(), 32u);
  // Single precision of the divisors: 2^-24 relative.
  for (std::size_t i = 0; i < divisors.size(); ++i)
    EXPECT_NEAR(plain[i] / scaled[i] / divisors[i], 1.0, 0x1p-23) << i;
}

TEST(GgufWriter, ReadsLlama3RopeScalingBackFromItsDivisors) {
  const TempFolder folder;
  TinyModel::Options options;
  options.rope_scaling = kLlama3;
  const TinyModel model(folder / "Tiny", options);
  write_random(model.plan(mixed_gguf(folder / "out.gguf", "F32")), model.inputs());
  const model::RopeSpec rope = open_artifact(folder / "out.gguf")->config().rope;
  EXPECT_EQ(rope.scaling, model::RopeSpec::Scaling::kLlama3);
  EXPECT_EQ(rope.factor, 8.0);
  EXPECT_EQ(rope.original_max_positions, 64);
  EXPECT_EQ(rope.inverse_frequencies(32), model.family().config.rope.inverse_frequencies(32));
}

// The divisors belong to low_freq_factor 2, which no Llama 3 has, so no scaling reproduces them.
TEST(GgufWriter, IsNotReadBackWithDivisorsOfAnUnknownScaling) {
  const TempFolder folder;
  TinyModel::Options options;
  options.rope_scaling = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 2.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 64})";
  const TinyModel model(folder / "Tiny", options);
  write_random(model.plan(mixed_gguf(folder / "out.gguf", "F32")), model.inputs());
  const Error error = error_of([&] { open_artifact(folder / "out.gguf"); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_THAT(error.what(), HasSubstr("'rope_freqs.weight' does not match any llama3 scaling"));
}

TEST(GgufWriter, WritesAndReadsLinearRopeScaling) {
  const TempFolder folder;
  TinyModel::Options options;
  options.rope_scaling = R"({"type": "linear", "factor": 2.5})";
  const TinyModel model(folder / "Tiny", options);
  write_random(model.plan(mixed_gguf(folder / "out.gguf", "F32")), model.inputs());
  const io::GgufFile file(folder / "out.gguf");
  EXPECT_EQ(file.string("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(file.real("llama.rope.scaling.factor"), 2.5);
  const model::RopeSpec rope = open_artifact(folder / "out.gguf")->config().rope;
  EXPECT_EQ(rope.scaling, model::RopeSpec::Scaling::kLinear);
  EXPECT_EQ(rope.factor, 2.5);
}

TEST(GgufWriter, RefusesValuesThatF16CannotHold) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  // 2^17 as BF16, written over the first element of the file's tensor.
  {
    const io::SafetensorsFile file(model.folder() / "model.safetensors");
    const io::TensorRef& head = *file.find("lm_head.weight");
    const auto offset = head.bytes.data() - head.file->bytes().data();
    std::fstream raw(model.folder() / "model.safetensors",
                     std::ios::in | std::ios::out | std::ios::binary);
    raw.seekp(offset);
    raw.write("\x00\x48", 2);
  }
  const model::CheckpointSource source(model.folder());
  const ExportPlan plan = model.plan(mixed_gguf(folder / "out.gguf", "F16"));
  auto writer = open_writer(plan, {model.family(), source, model.folder(), nullptr, {}});
  const Error error = error_of([&] { writer->finish(); });
  EXPECT_EQ(error.kind(), ErrorKind::kNumerical);
  EXPECT_THAT(
      error.what(),
      HasSubstr("'lm_head.weight': row 0, column 0 is 131072, beyond what F16 can store (65504)"));
  EXPECT_THAT(error.what(), HasSubstr("BF16"));
}

TEST(GgufWriter, LeavesNothingBehindWhenNotFinished) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  const ExportPlan plan = model.plan(mixed_gguf(folder / "out.gguf", "Q4_0"));
  {
    auto writer = open_writer(plan, model.inputs());
    const Error error = error_of([&] { writer->finish(); });
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  }
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    left.push_back(entry.path().filename().string());
  EXPECT_THAT(left, ElementsAre("Tiny"));
}

TEST(GgufWriter, RefusesAnExistingFileUnlessToldToReplaceIt) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  io::write_file(folder / "out.gguf", "old");
  ExportPlan plan = model.plan(mixed_gguf(folder / "out.gguf", "F16"));
  const Error error = error_of([&] { open_writer(plan, model.inputs()); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_THAT(error.what(), HasSubstr("already exists"));
  EXPECT_EQ(io::read_file(folder / "out.gguf"), "old");
  plan.request.overwrite = true;
  write_random(plan, model.inputs());
  EXPECT_EQ(open_artifact(folder / "out.gguf")->format(), "gguf");
}

TEST(GgufWriter, RefusesAFolderAsItsFile) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  const ExportPlan plan = model.plan(mixed_gguf(folder.path(), "F16"));
  const Error error = error_of([&] { open_writer(plan, model.inputs()); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_THAT(error.what(), HasSubstr("is a folder"));
}

}  // namespace
}  // namespace calque::formats
