// Artifacts written by other programs; see tests/fixtures/artifacts/README.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "calque/core/dtype.h"
#include "calque/formats/format.h"
#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "formats/packed_format.h"
#include "formats/support.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using testing::expected_sha256;
using testing::fixture;
using ::testing::HasSubstr;
using testing::sha256_of;

struct GoldenFolder {
  std::string name;
  std::string format;
  std::string stored_as;
  std::size_t matrices;
};

void PrintTo(const GoldenFolder& folder, std::ostream* out) { *out << folder.name; }

// scale * (code - zero) in fp32, as the fixtures were computed: exact, and with a negative scale a
// code on the zero point gives -0 where scale * code + offset gives +0.
Matrix<float> scaled_differences(const quant::QuantizedMatrix& q) {
  auto values = Matrix<float>::uninitialized(q.out_features(), q.in_features());
  const Index group_size = q.grid.group_size;
  for (Index n = 0; n < values.rows(); ++n)
    for (Index k = 0; k < values.cols(); ++k) {
      const float scale = q.groups().scales_NG(n, k / group_size);
      const float zero = -q.groups().offsets_NG(n, k / group_size) / scale;
      values(n, k) = scale * (static_cast<float>(q.groups().codes_NK(n, k)) - zero);
    }
  return values;
}

class GoldenFolders : public ::testing::TestWithParam<GoldenFolder> {};

TEST_P(GoldenFolders, DecodeToTheReferenceBitForBit) {
  const std::unique_ptr<ArtifactReader> reader = open_artifact(fixture(GetParam().name));
  const auto expected = expected_sha256(fixture(GetParam().name) / "dequantized.json");
  EXPECT_EQ(expected.size(), GetParam().matrices);
  for (const auto& [name, sha256] : expected) {
    const auto q = reader->quantized(name);
    ASSERT_TRUE(q.has_value()) << name;
    const Matrix<float> values = scaled_differences(*q);
    EXPECT_EQ(sha256_of(values), sha256) << name;
    const Matrix<float> loaded = reader->load(name);
    for (Index i = 0; i < values.size(); ++i)
      ASSERT_EQ(loaded.data()[i], values.data()[i]) << name << " element " << i;
  }
}

TEST_P(GoldenFolders, SayWhatTheyAre) {
  const std::unique_ptr<ArtifactReader> reader = open_artifact(fixture(GetParam().name));
  EXPECT_EQ(reader->format(), GetParam().format);
  EXPECT_EQ(reader->config().architecture, "LlamaForCausalLM");
  std::size_t quantized = 0;
  for (const StoredTensor& tensor : reader->tensors())
    if (tensor.stored_as == GetParam().stored_as) ++quantized;
  EXPECT_EQ(quantized, GetParam().matrices);
  EXPECT_FALSE(reader->has("model.layers.0.self_attn.q_proj.qweight"));
  EXPECT_TRUE(reader->has("model.layers.0.self_attn.q_proj.weight"));
}

INSTANTIATE_TEST_SUITE_P(
    All, GoldenFolders,
    ::testing::Values(
        GoldenFolder{"gptqmodel_w4g128_sym_v1", "gptq", "GPTQ 4 bit g128 sym", 14},
        GoldenFolder{"gptqmodel_w4g128_asym_v2", "gptq_v2", "GPTQ 4 bit g128 asym", 14},
        GoldenFolder{"gptqmodel_w8g128_sym_v1", "gptq", "GPTQ 8 bit g128 sym", 14},
        GoldenFolder{"gptqmodel_w3g128_sym_v1", "gptq", "GPTQ 3 bit g128 sym", 14},
        GoldenFolder{"autoround_rtn_w4g128_negscale", "gptq", "GPTQ 4 bit g128 sym", 14},
        GoldenFolder{"autoawq_w4g128_gemm", "awq", "AWQ 4 bit g128 asym", 7},
        GoldenFolder{"gptqmodel_awq_w4g128_gemm", "awq", "AWQ 4 bit g128 asym", 7},
        GoldenFolder{"llmcompressor_w4g128_sym_ct", "compressed-tensors",
                     "compressed-tensors 4 bit g128 sym", 7}),
    [](const auto& tested) { return tested.param.name; });

// Widths whose codes are a stream of bits, as compressed-tensors 0.20.1 stores them: one matrix
// `m`, and `dequantized`, its values in bf16.
struct GoldenWidth {
  const char* scheme;
  int bits;
  Index group_size;
  bool sym;
};
void PrintTo(const GoldenWidth& width, std::ostream* out) { *out << width.scheme; }

class GoldenWidths : public ::testing::TestWithParam<GoldenWidth> {};
INSTANTIATE_TEST_SUITE_P(CompressedTensors, GoldenWidths,
                         ::testing::Values(GoldenWidth{"W2A16_G64", 2, 64, true},
                                           GoldenWidth{"W3A16", 3, 128, true},
                                           GoldenWidth{"W3A16_G32_ASYM", 3, 32, false},
                                           GoldenWidth{"W5A16", 5, 128, true},
                                           GoldenWidth{"W6A16", 6, 128, true},
                                           GoldenWidth{"W7A16", 7, 128, true}));

TEST_P(GoldenWidths, DecodeAndPackAsThePackageDoes) {
  const auto [scheme, bits, group_size, sym] = GetParam();
  const calque::testing::TempFolder folder;
  io::copy_file(fixture("compressed_tensors_widths") / (std::string(scheme) + ".safetensors"),
                folder / "model.safetensors");
  const io::SafetensorsCheckpoint checkpoint(folder.path());
  const Format& format = format_named("compressed-tensors");
  const PackedSettings settings{
      .format = &format, .where = "test", .bits = bits, .group_size = group_size, .sym = sym};
  const quant::QuantizedMatrix q = format.packed->open(checkpoint, "m", settings).unpack();
  const Matrix<float> values = quant::dequantize(q);
  const Matrix<float> expected = io::to_matrix(*checkpoint.find("dequantized"));
  ASSERT_EQ(values.size(), expected.size());
  for (Index i = 0; i < values.size(); ++i)
    ASSERT_EQ(rounded_to_bfloat16(values.data()[i]), expected.data()[i]) << i;
  for (const NamedBytes& part : format.packed->pack("m", q, {})) {
    const io::TensorRef& stored = *checkpoint.find(part.name);
    ASSERT_EQ(part.bytes.size(), stored.bytes.size()) << part.name;
    EXPECT_TRUE(std::equal(part.bytes.begin(), part.bytes.end(), stored.bytes.begin()))
        << part.name;
  }
}

TEST(GoldenGptq, EqualsTheStoredTensorElementByElement) {
  const auto folder = fixture("gptqmodel_w4g128_asym_v2");
  const io::SafetensorsFile expected(folder / "dequantized.safetensors");
  ASSERT_EQ(expected.tensors().size(), 1u);
  const Matrix<float> values = io::to_matrix(expected.tensors().front());
  const Matrix<float> loaded = open_artifact(folder)->load(expected.tensors().front().name);
  ASSERT_EQ(loaded.rows(), values.rows());
  ASSERT_EQ(loaded.cols(), values.cols());
  for (Index i = 0; i < values.size(); ++i) ASSERT_EQ(loaded.data()[i], values.data()[i]) << i;
}

TEST(GoldenGptq, HasNegativeScalesInAutoRoundsFile) {
  const auto q = open_artifact(fixture("autoround_rtn_w4g128_negscale"))
                     ->quantized("model.layers.1.mlp.up_proj.weight");
  ASSERT_TRUE(q.has_value());
  Index negative = 0;
  for (Index i = 0; i < q->groups().scales_NG.size(); ++i)
    negative += q->groups().scales_NG.data()[i] < 0;
  EXPECT_GT(negative, q->groups().scales_NG.size() / 4);
  EXPECT_LT(negative, 3 * q->groups().scales_NG.size() / 4);
}

// The dense tensors of GPTQModel's files are BF16 (fixtures' README).
TEST(GoldenGptq, LoadsDenseTensorsBesideThePackedOnes) {
  const auto reader = open_artifact(fixture("gptqmodel_w4g128_sym_v1"));
  const Matrix<float> norm = reader->load("model.norm.weight");
  EXPECT_EQ(norm.rows(), 1);
  EXPECT_EQ(norm.cols(), 256);
  EXPECT_FALSE(reader->quantized("model.norm.weight").has_value());
  EXPECT_EQ(reader->load("lm_head.weight").rows(), 320);
  EXPECT_EQ(reader->tensors().size(), 14u + 7u);
}

// 1179648 weights in 14 matrices, 165120 others.
TEST(GoldenGptq, CountsBitsOfEverythingStored) {
  const auto reader = open_artifact(fixture("gptqmodel_w4g128_sym_v1"));
  std::uint64_t bytes = 0;
  for (const StoredTensor& t : reader->tensors()) bytes += t.bytes;
  const io::SafetensorsCheckpoint checkpoint(fixture("gptqmodel_w4g128_sym_v1"));
  EXPECT_EQ(bytes, checkpoint.total_bytes());
  EXPECT_EQ(reader->file_bytes(),
            std::filesystem::file_size(fixture("gptqmodel_w4g128_sym_v1") / "model.safetensors"));
  EXPECT_DOUBLE_EQ(reader->bits_per_weight(),
                   8.0 * static_cast<double>(bytes) / (1179648.0 + 165120.0));
}

// values.json: sha256 of each tensor of the model that the file was converted from, as fp32.
TEST(GoldenGguf, F16EqualsTheSourceAfterUndoingThePermutation) {
  const auto reader = open_artifact(fixture("gguf/tiny-f16.gguf"));
  const auto expected = io::parse_json(io::read_file(fixture("source/values.json")));
  EXPECT_EQ(expected.size(), 21u);
  for (const auto& [name, tensor] : expected.members()) {
    ASSERT_TRUE(reader->has(name)) << name;
    EXPECT_EQ(sha256_of(reader->load(name)), tensor.at("sha256").get<std::string>()) << name;
  }
}

TEST(GoldenGguf, GivesTheConfigurationOfTheSource) {
  const model::ModelConfig gguf = open_artifact(fixture("gguf/tiny-f16.gguf"))->config();
  const model::ModelConfig source = model::load_config(fixture("source"));
  EXPECT_EQ(gguf.architecture, source.architecture);
  EXPECT_EQ(gguf.model_type, source.model_type);
  EXPECT_EQ(gguf.hidden_size, source.hidden_size);
  EXPECT_EQ(gguf.intermediate_size, source.intermediate_size);
  EXPECT_EQ(gguf.num_layers, source.num_layers);
  EXPECT_EQ(gguf.num_heads, source.num_heads);
  EXPECT_EQ(gguf.num_kv_heads, source.num_kv_heads);
  EXPECT_EQ(gguf.head_dim, source.head_dim);
  EXPECT_EQ(gguf.vocab_size, source.vocab_size);
  EXPECT_EQ(gguf.max_positions, source.max_positions);
  EXPECT_EQ(gguf.rms_norm_eps, source.rms_norm_eps);
  EXPECT_EQ(gguf.rope.theta, source.rope.theta);
  EXPECT_EQ(gguf.rope.scaling, source.rope.scaling);
  EXPECT_EQ(gguf.tie_word_embeddings, source.tie_word_embeddings);
  EXPECT_EQ(gguf.attention_bias, source.attention_bias);
  EXPECT_EQ(gguf.mlp_bias, source.mlp_bias);
  EXPECT_EQ(gguf.bos_token_id, source.bos_token_id);
  EXPECT_EQ(gguf.eos_token_id, source.eos_token_id);
}

class GoldenGgufTypes : public ::testing::TestWithParam<std::string> {};

// Back in GGUF's order of rows, as the reference package sees the file.
Matrix<float> permuted(Matrix<float> values, Index heads) {
  if (heads == 0) return values;
  auto result = Matrix<float>::uninitialized(values.rows(), values.cols());
  const Index half = values.rows() / heads / 2;
  for (Index r = 0; r < values.rows(); ++r) {
    const Index head = r / (2 * half);
    const Index t = r % (2 * half) / 2;
    const Index source = head * 2 * half + r % 2 * half + t;
    std::copy_n(values.row(source), values.cols(), result.row(r));
  }
  return result;
}

// dequantized.json was made with the `gguf` Python package.
TEST_P(GoldenGgufTypes, DecodeAsTheReferencePackageDoes) {
  const std::string file = GetParam();
  const auto reader = open_artifact(fixture("gguf/" + file));
  EXPECT_EQ(reader->format(), "gguf");
  const auto expected = io::parse_json(io::read_file(fixture("gguf/dequantized.json"))).at(file);
  EXPECT_EQ(expected.size(), 12u);
  for (const model::TensorSpec& tensor : model::family_of(reader->config()).tensors()) {
    const auto& golden = expected.at(tensor.gguf_name);
    Matrix<float> values = permuted(reader->load(tensor.name), tensor.gguf_permuted_heads);
    for (Index i = 0; i < values.size(); ++i) values.data()[i] += 0.0f;  // no negative zeros there
    EXPECT_EQ(sha256_of(values), golden.at("sha256").get<std::string>()) << tensor.gguf_name;
  }
}

TEST_P(GoldenGgufTypes, ListTheirTensorsUnderHuggingFaceNames) {
  const auto reader = open_artifact(fixture("gguf/" + GetParam()));
  const std::string type = GetParam().substr(12, 4);
  std::size_t of_type = 0;
  for (const StoredTensor& tensor : reader->tensors()) {
    EXPECT_TRUE(reader->has(tensor.name)) << tensor.name;
    of_type += tensor.stored_as == type;
  }
  // Seven matrices and the embedding; Q8_0 files also store the output so.
  EXPECT_EQ(of_type, type == "Q8_0" ? 9u : 8u);
  EXPECT_EQ(reader->file_bytes(), std::filesystem::file_size(fixture("gguf/" + GetParam())));
}

INSTANTIATE_TEST_SUITE_P(All, GoldenGgufTypes,
                         ::testing::Values("tiny-1layer-Q8_0.gguf", "tiny-1layer-Q5_1.gguf",
                                           "tiny-1layer-Q5_0.gguf", "tiny-1layer-Q4_1.gguf",
                                           "tiny-1layer-Q4_0.gguf"),
                         [](const auto& tested) { return tested.param.substr(12, 4); });

TEST(LoadRows, AreRowsOfTheWhole) {
  for (const std::filesystem::path& path :
       {fixture("gguf/tiny-1layer-Q4_0.gguf"), fixture("gguf/tiny-1layer-Q8_0.gguf"),
        fixture("gguf/tiny-f16.gguf"), fixture("gptqmodel_w4g128_sym_v1"),
        std::filesystem::path(test::demo_model())}) {
    const std::unique_ptr<ArtifactReader> reader = open_artifact(path);
    for (const StoredTensor& tensor : reader->tensors()) {
      if (tensor.shape.size() != 2) continue;
      const Matrix<float> all = reader->load(tensor.name);
      const std::vector<Index> rows{0, 5, all.rows() - 1};
      const Matrix<float> some = reader->load_rows(tensor.name, rows);
      ASSERT_EQ(some.rows(), 3);
      for (Index u = 0; u < 3; ++u)
        for (Index k = 0; k < all.cols(); ++k)
          ASSERT_EQ(some(u, k), all(rows[static_cast<std::size_t>(u)], k)) << path << tensor.name;
    }
  }
}

}  // namespace
}  // namespace calque::formats
