// Whole exports against the files of llama-quantize; see tests/fixtures/gguf/README.md.
#include <gtest/gtest.h>

#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/json.h"
#include "calque/io/sha256.h"
#include "calque/quant/methods.h"
#include "formats/support.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using testing::fixture;

struct GoldenFile {
  std::string file;
  std::string type;
  bool importance = false;
};
void PrintTo(const GoldenFile& golden, std::ostream* out) { *out << golden.file; }

std::string name_of_case(const ::testing::TestParamInfo<GoldenFile>& tested) {
  return tested.param.type + (tested.param.importance ? "_imatrix" : "");
}

// The golden model as a checkpoint of F16: its GGUF file holds all values exactly.
void write_checkpoint(const std::filesystem::path& folder, const ArtifactReader& source,
                      const model::FamilySpec& family) {
  std::vector<io::TensorDeclaration> declared;
  for (const model::TensorSpec& tensor : family.tensors())
    declared.push_back({tensor.name, DType::kF16, tensor.shape});
  io::SafetensorsWriter writer(folder, declared);
  for (const io::TensorDeclaration& tensor : declared) {
    const Matrix<float> values = source.load(tensor.name);
    std::vector<std::byte> bytes(tensor.byte_count());
    convert_from_float(values.data(), DType::kF16, static_cast<std::size_t>(values.size()),
                       bytes.data());
    writer.write(tensor.name, bytes);
  }
  writer.finish();
}

std::vector<float> row_values(const io::GgufTensor& tensor) {
  std::vector<float> values(tensor.element_count());
  convert_to_float(tensor.bytes.data(), DType::kF32, values.size(), values.data());
  return values;
}

// The statistics that a file of llama-imatrix stands for; empty where it has none.
quant::InputStats stats_of(const io::GgufFile& imatrix, const std::string& gguf_name) {
  quant::InputStats stats;
  const io::GgufTensor* sums = imatrix.find_tensor(gguf_name + ".in_sum2");
  if (sums == nullptr) return stats;
  const std::vector<float> in_sum2_K = row_values(*sums);
  const auto features = static_cast<Index>(in_sum2_K.size());
  stats.gram_KK = Matrix<float>(features, features);
  for (Index k = 0; k < features; ++k) stats.gram_KK(k, k) = in_sum2_K[static_cast<std::size_t>(k)];
  stats.magnitude_K.assign(in_sum2_K.size(), 1.0);
  stats.tokens =
      static_cast<Index>(row_values(*imatrix.find_tensor(gguf_name + ".counts")).front());
  return stats;
}

class LlamaQuantize : public ::testing::TestWithParam<GoldenFile> {
 protected:
  LlamaQuantize()
      : source_(open_artifact(fixture("gguf/tiny-f16.gguf"))),
        family_(model::family_of(source_->config())),
        imatrix_(test::fixtures() + "/gguf/tiny-imatrix.gguf") {
    write_checkpoint(folder_ / "model", *source_, family_);
  }

  void export_to(const std::filesystem::path& path) {
    const model::CheckpointSource checkpoint(folder_ / "model");
    ExportRequest request;
    request.format = "gguf";
    request.path = path;
    request.type = GetParam().type;
    const ExportPlan plan =
        plan_export(family_, checkpoint,
                    {.calibrated = GetParam().importance, .reference_rounding = true}, request);
    const auto writer = open_writer(plan, {family_, checkpoint, folder_ / "model", nullptr, {}});
    for (const TensorPlan& planned : plan.tensors)
      if (planned.grid) writer->write(planned.tensor.name, rounded(planned));
    writer->finish();
  }

  quant::QuantizedMatrix rounded(const TensorPlan& planned) const {
    const quant::InputStats stats =
        GetParam().importance ? stats_of(imatrix_, planned.tensor.gguf_name) : quant::InputStats{};
    return quant::make_rtn({})(stats.clone(), open_exec("cpu", 2))(
               source_->load(planned.tensor.name), *planned.grid)
        .matrix;
  }

  TempFolder folder_;
  std::unique_ptr<ArtifactReader> source_;
  model::FamilySpec family_;
  io::GgufFile imatrix_;
};

TEST_P(LlamaQuantize, WroteTheSameTensors) {
  export_to(folder_ / "out.gguf");
  const io::GgufFile file(folder_ / "out.gguf");
  const auto golden = io::parse_json(
      io::read_file(test::fixtures() + "/gguf/llama_quantize.json"))[GetParam().file];
  EXPECT_EQ(file.integer("general.file_type"), golden.at("file_type").get<std::int64_t>());
  EXPECT_GE(golden.at("tensors").size(), 12u);
  for (const auto& [name, expected] : golden.at("tensors").members()) {
    const io::GgufTensor* tensor = file.find_tensor(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(ggml::info_of(tensor->type).name, expected.at("type").get<std::string>()) << name;
    EXPECT_EQ(io::sha256_hex(tensor->bytes), expected.at("sha256").get<std::string>()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, LlamaQuantize,
    ::testing::Values(
        GoldenFile{"tiny-Q2_K", "Q2_K"}, GoldenFile{"tiny-Q2_K-imatrix", "Q2_K", true},
        GoldenFile{"tiny-Q3_K_M", "Q3_K_M"}, GoldenFile{"tiny-Q4_K_M", "Q4_K_M"},
        GoldenFile{"tiny-Q4_K_M-imatrix", "Q4_K_M", true}, GoldenFile{"tiny-Q5_K_M", "Q5_K_M"},
        GoldenFile{"tiny-IQ4_XS", "IQ4_XS"}, GoldenFile{"tiny-1layer-Q4_0", "Q4_0"},
        GoldenFile{"tiny-1layer-Q4_1", "Q4_1"}, GoldenFile{"tiny-1layer-Q5_0", "Q5_0"},
        GoldenFile{"tiny-1layer-Q5_1", "Q5_1"}, GoldenFile{"tiny-1layer-Q8_0", "Q8_0"},
        GoldenFile{"tiny-1layer-Q6_K", "Q6_K"}, GoldenFile{"tiny-1layer-IQ4_NL", "IQ4_NL"}),
    name_of_case);

}  // namespace
}  // namespace calque::formats
