#include "formats/support.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <span>

#include "calque/core/exec.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/io/sha256.h"
#include "calque/kernels/ggml.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::formats::testing {
namespace {

std::string config_text(const TinyModel::Options& options) {
  return fmt::format(
      R"({{"architectures": ["{}"], "hidden_size": {}, "intermediate_size": {},
 "num_hidden_layers": {}, "num_attention_heads": {}, "num_key_value_heads": {},
 "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "rope_scaling": {},
 "hidden_act": "silu", "tie_word_embeddings": {}, "vocab_size": {}, "bos_token_id": 1,
 "eos_token_id": 2, "torch_dtype": "bfloat16", "attention_bias": {}, "mlp_bias": false}}
)",
      options.architecture, options.hidden, options.intermediate, options.layers, options.heads,
      options.kv_heads, options.rope_scaling, options.tied, options.vocab, options.attention_bias);
}

void write_weights(const std::filesystem::path& folder, const model::FamilySpec& family,
                   DType dtype) {
  std::vector<io::TensorDeclaration> declared;
  for (const model::TensorSpec& tensor : family.tensors())
    declared.push_back({tensor.name, dtype, tensor.shape});
  io::SafetensorsWriter writer(folder, declared);
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, 0.2f);
  for (const io::TensorDeclaration& tensor : declared) {
    const std::size_t count = tensor.byte_count() / size_of(dtype);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    std::vector<std::byte> bytes(tensor.byte_count());
    convert_from_float(values.data(), dtype, count, bytes.data());
    writer.write(tensor.name, bytes);
  }
  writer.finish();
}

model::FamilySpec prepare(const std::filesystem::path& folder, const TinyModel::Options& options) {
  std::filesystem::create_directories(folder);
  io::write_file(folder / "config.json", config_text(options));
  io::write_file(folder / "tokenizer.json", "{\"made\": \"up\"}\n");
  io::write_file(folder / "LICENSE", "anyone, anything\n");
  io::write_file(folder / "README.md", "of the source\n");
  model::FamilySpec family = model::family_of(model::load_config(folder));
  write_weights(folder, family, options.dtype);
  return family;
}

// Scales with at most 6 bits of mantissa between 2^-7 and 2^-1: exact in binary16 and bfloat16.
float random_scale(std::mt19937& random, bool signed_scales) {
  const auto mantissa = static_cast<float>(32 + random() % 32) / 32.0f;
  const int exponent = -7 + static_cast<int>(random() % 6);
  const float scale = std::ldexp(mantissa, exponent);
  return signed_scales && random() % 2 ? -scale : scale;
}

float random_offset(const quant::Grid& grid, float scale, std::mt19937& random) {
  if (grid.offset_kind == OffsetKind::kMiddleCode)
    return -scale * static_cast<float>(1 << (grid.bits - 1));
  if (grid.offset_kind == OffsetKind::kMinimum) return -8.0f * random_scale(random, true);
  const auto zeros = static_cast<unsigned>(grid.max_code() + 1 - grid.min_zero);
  const unsigned zero = static_cast<unsigned>(grid.min_zero) + random() % zeros;
  return -scale * static_cast<float>(zero);
}

}  // namespace

std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(test::fixtures()) / "artifacts" / name;
}

std::map<std::string, std::string> expected_sha256(const std::filesystem::path& json) {
  std::map<std::string, std::string> result;
  const auto root = io::parse_json(io::read_file(json));
  for (const auto& [name, tensor] : root.at("tensors").members())
    result[name] = tensor.at("sha256").get<std::string>();
  return result;
}

std::string sha256_of(const Matrix<float>& values) {
  return io::sha256_hex(std::as_bytes(
      std::span<const float>(values.data(), static_cast<std::size_t>(values.size()))));
}

Error error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorKind::kInternal, "", ""};
}

TinyModel::TinyModel(const std::filesystem::path& folder, const Options& options)
    : folder_(folder), family_(prepare(folder, options)), source_(folder) {}

ExportPlan TinyModel::plan(const ExportRequest& request,
                           const QuantizationRequest& quantization) const {
  return plan_export(family_, source_, quantization, request);
}

WriterInputs TinyModel::inputs(const text::Vocabulary* vocabulary) const {
  Provenance provenance;
  provenance.quantizer = "calque:0.1.0";
  provenance.model_name = "Tiny";
  provenance.method = "gptq";
  provenance.damp_percent = 0.02;
  return {family_, source_, folder_, vocabulary, provenance};
}

ExportPlan plan_of_sizes(const std::string& sizes, const ExportRequest& request,
                         const QuantizationRequest& quantization) {
  const calque::testing::TempFolder folder;
  TinyModel::Options tiny;
  tiny.layers = 1;
  const TinyModel any(folder / "any", tiny);
  const model::FamilySpec family = model::family_of(model::parse_config(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
          "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, )" +
          sizes + "}",
      "sizes"));
  return plan_export(family, any.source(), quantization, request);
}

namespace {

// Random weights, rounded: most bit patterns of a block are never made by a quantizer.
quant::QuantizedMatrix random_blocks(const quant::Grid& grid, Index N, Index K,
                                     std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.2f);
  Matrix<float> weight_NK(N, K);
  for (Index i = 0; i < weight_NK.size(); ++i) weight_NK.data()[i] = normal(random);
  quant::QuantizedMatrix q;
  q.grid = grid;
  q.stored = quant::BlockRows{
      Matrix<std::uint8_t>(N, static_cast<Index>(ggml::row_bytes(*grid.block, K)))};
  const std::span bytes(q.blocks().rows_NB.data(),
                        static_cast<std::size_t>(q.blocks().rows_NB.size()));
  ggml_quantize(*grid.block, weight_NK, {}, std::as_writable_bytes(bytes), open_exec("cpu", 1));
  return q;
}

}  // namespace

quant::QuantizedMatrix random_floats(const quant::Grid& grid, Index N, Index K,
                                     std::uint32_t seed) {
  std::mt19937 random(seed);
  quant::QuantizedMatrix q;
  q.grid = grid;
  q.input_peak = kInputPeak;
  q.groups().codes_NK = Matrix<std::uint8_t>(N, K);
  q.groups().scales_NG = Matrix<float>(N, grid.groups(K));
  q.groups().offsets_NG = Matrix<float>(N, grid.groups(K));
  const std::span<const float> values = values_of(*grid.number);
  for (Index i = 0; i < q.groups().codes_NK.size(); ++i) {
    const auto code = random() % values.size();
    q.groups().codes_NK.data()[i] = static_cast<std::uint8_t>(std::isnan(values[code]) ? 0 : code);
  }
  const Index rows = grid.scale_rows_for(N);
  if (grid.precision == ScalePrecision::kE4M3) q.groups().scale_divisor = 1500;
  const auto any_scale = [&] {
    const float scale = random_scale(random, false);
    return grid.coded_scales() ? rounded_scale(scale, grid.precision, q.groups().scale_divisor)
                               : scale;
  };
  for (Index n = 0; n < N; ++n)
    for (Index g = 0; g < q.groups().scales_NG.cols(); ++g)
      q.groups().scales_NG(n, g) =
          n % rows == 0 ? any_scale() : q.groups().scales_NG(n - n % rows, g);
  return q;
}

quant::QuantizedMatrix random_quantized(const quant::Grid& grid, Index N, Index K,
                                        std::uint32_t seed) {
  if (grid.block) return random_blocks(grid, N, K, seed);
  if (grid.number) return random_floats(grid, N, K, seed);
  std::mt19937 random(seed);
  quant::QuantizedMatrix q;
  q.grid = grid;
  q.groups().codes_NK = Matrix<std::uint8_t>(N, K);
  q.groups().scales_NG = Matrix<float>(N, grid.groups(K));
  q.groups().offsets_NG = Matrix<float>(N, grid.groups(K));
  const bool signed_scales = grid.offset_kind == OffsetKind::kMiddleCode;
  for (Index i = 0; i < q.groups().codes_NK.size(); ++i)
    q.groups().codes_NK.data()[i] =
        static_cast<std::uint8_t>(random() % (static_cast<unsigned>(grid.max_code()) + 1));
  for (Index i = 0; i < q.groups().scales_NG.size(); ++i) {
    q.groups().scales_NG.data()[i] = random_scale(random, signed_scales);
    q.groups().offsets_NG.data()[i] = random_offset(grid, q.groups().scales_NG.data()[i], random);
  }
  const Index groups = grid.groups(K);
  if (grid.desc_act && groups > 1)
    for (Index k = 0; k < K; ++k)
      q.groups().group_of_column_K.push_back(static_cast<std::int32_t>(k * 7 % groups));
  return q;
}

std::map<std::string, quant::QuantizedMatrix> write_random(const ExportPlan& plan,
                                                           const WriterInputs& inputs) {
  std::map<std::string, quant::QuantizedMatrix> written;
  std::unique_ptr<ArtifactWriter> writer = open_writer(plan, inputs);
  std::uint32_t seed = 100;
  for (const TensorPlan& planned : plan.tensors) {
    if (!planned.grid) continue;
    const std::vector<Index>& shape = planned.tensor.shape;
    quant::QuantizedMatrix q = random_quantized(*planned.grid, shape[0], shape[1], seed++);
    writer->write(planned.tensor.name, q);
    written.emplace(planned.tensor.name, std::move(q));
  }
  writer->finish();
  return written;
}

void expect_same(const quant::QuantizedMatrix& actual, const quant::QuantizedMatrix& expected) {
  ASSERT_EQ(actual.out_features(), expected.out_features());
  ASSERT_EQ(actual.in_features(), expected.in_features());
  ASSERT_EQ(actual.groups().scales_NG.cols(), expected.groups().scales_NG.cols());
  const auto same = [](const auto& a, const auto& b) {
    return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(*a.data()));
  };
  EXPECT_EQ(same(actual.groups().codes_NK, expected.groups().codes_NK), 0);
  EXPECT_EQ(same(actual.groups().scales_NG, expected.groups().scales_NG), 0);
  EXPECT_EQ(same(actual.groups().offsets_NG, expected.groups().offsets_NG), 0);
  EXPECT_EQ(actual.groups().scale_divisor, expected.groups().scale_divisor);
  EXPECT_EQ(actual.groups().group_of_column_K, expected.groups().group_of_column_K);
  EXPECT_EQ(actual.grid.bits, expected.grid.bits);
  EXPECT_EQ(actual.grid.offset_kind, expected.grid.offset_kind);
}

text::Vocabulary tiny_vocabulary(Index size) {
  text::Vocabulary vocabulary;
  vocabulary.pre = "default";
  for (Index i = 0; i < size; ++i) vocabulary.tokens.push_back(fmt::format("t{}", i));
  vocabulary.types.assign(vocabulary.tokens.size(), text::Vocabulary::TokenType::kNormal);
  vocabulary.scores.assign(vocabulary.tokens.size(), -1.0f);
  vocabulary.special_ids = {{"bos", 1}, {"eos", 2}};
  vocabulary.add_bos = true;
  return vocabulary;
}

}  // namespace calque::formats::testing
