#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "calque/formats/planned_files.h"
#include "calque/formats/side_files.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using io::Json;
using ::testing::ElementsAre;
using testing::error_of;
using testing::expect_same;
using ::testing::HasSubstr;
using testing::random_quantized;
using testing::TinyModel;
using testing::write_random;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class GptqWriter : public ::testing::Test {
 protected:
  GptqWriter() : model_(folder_ / "Tiny", TinyModel::Options{}) {}

  ExportRequest request(const std::string& checkpoint_format = "auto") const {
    ExportRequest request;
    request.format = "gptq";
    request.path = folder_ / "out";
    request.checkpoint_format = checkpoint_format;
    return request;
  }
  Json config() const { return io::parse_json(io::read_file(folder_ / "out" / "config.json")); }

  TempFolder folder_;
  TinyModel model_;
};

struct Variant {
  int bits;
  Index group_size;
  bool sym;
  std::string checkpoint_format;
  std::string read_as;
};
std::string name_of(const Variant& v) {
  return "w" + std::to_string(v.bits) + (v.group_size < 0 ? "row" : "g32") +
         (v.sym ? "sym" : "asym") + v.checkpoint_format;
}
void PrintTo(const Variant& v, std::ostream* out) { *out << name_of(v); }

class GptqRoundTrip : public GptqWriter, public ::testing::WithParamInterface<Variant> {};

TEST_P(GptqRoundTrip, GivesBackCodesScalesAndOffsets) {
  const Variant& v = GetParam();
  const ExportPlan plan = model_.plan(request(v.checkpoint_format),
                                      {.bits = v.bits, .group_size = v.group_size, .sym = v.sym});
  const auto written = write_random(plan, model_.inputs());
  const auto reader = open_artifact(folder_ / "out");
  EXPECT_EQ(reader->format(), v.read_as);
  EXPECT_EQ(written.size(), 14u);
  for (const auto& [name, q] : written) {
    SCOPED_TRACE(name);
    const auto read = reader->quantized(name);
    ASSERT_TRUE(read.has_value());
    expect_same(*read, q);
    const Matrix<float> loaded = reader->load(name);
    const Matrix<float> expected = quant::dequantize(q);
    EXPECT_EQ(testing::sha256_of(loaded), testing::sha256_of(expected));
  }
}

TEST_P(GptqRoundTrip, TakesTheBytesThatWerePlanned) {
  const Variant& v = GetParam();
  const ExportPlan plan = model_.plan(request(v.checkpoint_format),
                                      {.bits = v.bits, .group_size = v.group_size, .sym = v.sym});
  write_random(plan, model_.inputs());
  EXPECT_EQ(io::SafetensorsCheckpoint(folder_ / "out").total_bytes(), plan.tensor_bytes);
  EXPECT_DOUBLE_EQ(open_artifact(folder_ / "out")->bits_per_weight(), plan.bits_per_weight);
}

INSTANTIATE_TEST_SUITE_P(All, GptqRoundTrip,
                         ::testing::Values(Variant{4, 32, true, "auto", "gptq"},
                                           Variant{4, 32, false, "auto", "gptq_v2"},
                                           Variant{4, 32, false, "gptq", "gptq"},
                                           Variant{4, 32, true, "gptq_v2", "gptq_v2"},
                                           Variant{3, 32, true, "auto", "gptq"},
                                           Variant{3, 32, false, "gptq", "gptq"},
                                           Variant{2, -1, false, "auto", "gptq_v2"},
                                           Variant{8, -1, true, "auto", "gptq"},
                                           Variant{8, 32, false, "gptq", "gptq"}),
                         [](const auto& tested) { return name_of(tested.param); });

TEST_F(GptqWriter, CopiesEveryOtherTensorByteForByte) {
  write_random(model_.plan(request(), {.bits = 4, .group_size = 32}), model_.inputs());
  const io::SafetensorsCheckpoint out(folder_ / "out");
  int copied = 0;
  for (const model::SourceTensor& source : model_.source().tensors()) {
    const io::TensorRef* copy = out.find(source.name);
    if (copy == nullptr) continue;
    ++copied;
    EXPECT_EQ(copy->dtype, source.dtype) << source.name;
    EXPECT_EQ(copy->shape, source.shape) << source.name;
    EXPECT_TRUE(std::ranges::equal(copy->bytes, model_.source().bytes(source.name).get()))
        << source.name;
  }
  EXPECT_EQ(copied, 2 + 1 + 2 * 2);  // embedding and head, final norm, two norms a block
}

TEST_F(GptqWriter, KeepsTheSourcesConfigurationInItsOrder) {
  write_random(model_.plan(request(), {.bits = 4, .group_size = 32}), model_.inputs());
  Json written = config();
  EXPECT_EQ(written.members().back().name, "quantization_config");
  written.members().pop_back();
  const Json source = io::parse_json(io::read_file(model_.folder() / "config.json"));
  EXPECT_EQ(written.dump(), source.dump());
  EXPECT_THAT(io::read_file(folder_ / "out" / "config.json"), HasSubstr("\"rms_norm_eps\": 1e-05"));
}

// Both spellings of the keys, and everything that is not for inference in "meta"
// (src/formats/README.md, "GPTQ").
TEST_F(GptqWriter, SaysHowItIsQuantizedInBothPlacesAndSpellings) {
  write_random(model_.plan(request("gptq"), {.bits = 4, .group_size = 32, .sym = false}),
               model_.inputs());
  const Json settings = config().at("quantization_config");
  EXPECT_EQ(io::parse_json(io::read_file(folder_ / "out" / "quantize_config.json")), settings);
  EXPECT_EQ(settings.at("bits"), 4);
  EXPECT_EQ(settings.at("group_size"), 32);
  EXPECT_EQ(settings.at("sym"), false);
  EXPECT_EQ(settings.at("desc_act"), false);
  EXPECT_EQ(settings.at("lm_head"), false);
  EXPECT_EQ(settings.at("pack_dtype"), "int32");
  for (const char* key : {"method", "quant_method", "format", "checkpoint_format"})
    EXPECT_EQ(settings.at(key), "gptq") << key;
  EXPECT_FALSE(settings.contains("damp_percent"));
  EXPECT_EQ(settings.at("meta").at("damp_percent"), 0.02);
  EXPECT_EQ(settings.at("meta").at("quantizer").at(0), "calque:0.1.0");
  EXPECT_THAT(settings.dump(), Not(HasSubstr(folder_.path().string())));
}

TEST_F(GptqWriter, CopiesSideFilesByteForByteAndNothingElse) {
  std::ofstream(model_.folder() / "chat_template.jinja") << "{{ messages }}";
  std::ofstream(model_.folder() / "pytorch_model.bin") << "weights";
  std::ofstream(model_.folder() / "model.safetensors.index.json.bak.npz") << "weights";
  std::ofstream(model_.folder() / ".gitattributes") << "hidden";
  fs::create_directory(model_.folder() / "original");
  write_random(model_.plan(request(), {.bits = 4, .group_size = 32}), model_.inputs());
  EXPECT_THAT(names_in(folder_ / "out"),
              ElementsAre("LICENSE", "chat_template.jinja", "config.json", "model.safetensors",
                          "quantize_config.json", "tokenizer.json"));
  for (const char* name : {"LICENSE", "chat_template.jinja", "tokenizer.json"})
    EXPECT_EQ(io::read_file(folder_ / "out" / name), io::read_file(model_.folder() / name));
}

TEST_F(GptqWriter, WritesShardsThatReadBack) {
  ExportRequest small = request();
  small.max_shard_bytes = 8192;
  const auto written =
      write_random(model_.plan(small, {.bits = 4, .group_size = 32}), model_.inputs());
  EXPECT_TRUE(fs::exists(folder_ / "out" / "model.safetensors.index.json"));
  const auto reader = open_artifact(folder_ / "out");
  for (const auto& [name, q] : written) expect_same(*reader->quantized(name), q);
}

// A row that is one group has no order of groups, whatever the export says.
TEST_F(GptqWriter, HasNoOrderOfASingleGroup) {
  ExportRequest ordered = request();
  ordered.desc_act = true;
  write_random(model_.plan(ordered, {.bits = 4, .group_size = -1}), model_.inputs());
  EXPECT_EQ(config().at("quantization_config").at("desc_act"), false);
}

// Says so even where the order happens to be that of the columns, so that plan and file agree.
TEST_F(GptqWriter, TakesTheOrderOfGroupsFromThePlan) {
  ExportRequest ordered = request();
  ordered.desc_act = true;
  const ExportPlan plan = model_.plan(ordered, {.bits = 4, .group_size = 32});
  write_random(plan, model_.inputs());
  EXPECT_EQ(config().at("quantization_config").at("desc_act"), true);
  for (const PlannedFile& file : planned_files(plan, model_.inputs()))
    EXPECT_EQ(fs::file_size(folder_ / "out" / file.name), file.bytes) << file.name;
}

TEST_F(GptqWriter, StoresActivationOrderedGroups) {
  ExportRequest ordered = request();
  ordered.desc_act = true;
  const ExportPlan plan = model_.plan(ordered, {.bits = 4, .group_size = 32});
  auto writer = open_writer(plan, model_.inputs());
  std::map<std::string, quant::QuantizedMatrix> written;
  for (const TensorPlan& planned : plan.tensors) {
    if (!planned.grid) continue;
    const std::vector<Index>& shape = planned.tensor.shape;
    quant::QuantizedMatrix q = random_quantized(*planned.grid, shape[0], shape[1], 4);
    q.groups().group_of_column_K.clear();
    for (Index k = 0; k < shape[1]; ++k)
      q.groups().group_of_column_K.push_back(static_cast<std::int32_t>(k * 7 % (shape[1] / 32)));
    writer->write(planned.tensor.name, q);
    written.emplace(planned.tensor.name, std::move(q));
  }
  writer->finish();
  EXPECT_EQ(config().at("quantization_config").at("desc_act"), true);
  const auto reader = open_artifact(folder_ / "out");
  for (const auto& [name, q] : written) expect_same(*reader->quantized(name), q);
}

TEST_F(GptqWriter, LeavesNothingBehindWhenNotFinished) {
  const ExportPlan plan = model_.plan(request(), {.bits = 4, .group_size = 32});
  {
    auto writer = open_writer(plan, model_.inputs());
    const TensorPlan& q = plan.at("model.layers.0.self_attn.q_proj.weight");
    writer->write(q.tensor.name, random_quantized(*q.grid, 64, 64, 1));
    EXPECT_THAT(names_in(folder_.path()), ElementsAre("Tiny", "out.partial"));
  }
  EXPECT_THAT(names_in(folder_.path()), ElementsAre("Tiny"));
}

TEST_F(GptqWriter, RefusesToFinishWithoutEveryTensor) {
  const ExportPlan plan = model_.plan(request(), {.bits = 4, .group_size = 32});
  auto writer = open_writer(plan, model_.inputs());
  const Error error = error_of([&] { writer->finish(); });
  EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  EXPECT_THAT(error.what(), HasSubstr("never given to the writer"));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(GptqWriter, HoldsItsCallerToThePlan) {
  const ExportPlan plan = model_.plan(request(), {.bits = 4, .group_size = 32});
  const quant::Grid grid = *plan.at("model.layers.0.self_attn.q_proj.weight").grid;
  quant::Grid other = grid;
  other.bits = 3;
  auto writer = open_writer(plan, model_.inputs());
  const auto message = [&](const std::string& name, const quant::QuantizedMatrix& q) {
    return std::string(error_of([&] { writer->write(name, q); }).what());
  };
  const std::string q_proj = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_THAT(message(q_proj, random_quantized(other, 64, 64, 1)), HasSubstr("planned as 4 bit"));
  EXPECT_THAT(message(q_proj, random_quantized(grid, 32, 64, 1)),
              HasSubstr("shape [32, 64], planned as [64, 64]"));
  EXPECT_THAT(message("lm_head.weight", random_quantized(grid, 40, 64, 1)),
              HasSubstr("planned as a copy"));
  EXPECT_THAT(message("no.such.weight", random_quantized(grid, 64, 64, 1)),
              HasSubstr("not in the plan"));
  writer->write(q_proj, random_quantized(grid, 64, 64, 1));
  EXPECT_THAT(message(q_proj, random_quantized(grid, 64, 64, 1)), HasSubstr("twice"));
}

TEST_F(GptqWriter, RefusesAnExistingFolderUnlessToldToReplaceIt) {
  fs::create_directory(folder_ / "out");
  std::ofstream(folder_ / "out" / "old") << "old";
  ExportPlan plan = model_.plan(request(), {.bits = 4, .group_size = 32});
  const Error error = error_of([&] { open_writer(plan, model_.inputs()); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_TRUE(fs::exists(folder_ / "out" / "old"));
  plan.request.overwrite = true;
  write_random(plan, model_.inputs());
  EXPECT_FALSE(fs::exists(folder_ / "out" / "old"));
  EXPECT_EQ(open_artifact(folder_ / "out")->format(), "gptq");
}

TEST_F(GptqWriter, RefusesToReplaceTheModelItself) {
  ExportRequest itself = request();
  itself.path = model_.folder();
  itself.overwrite = true;
  const ExportPlan plan = model_.plan(itself, {.bits = 4, .group_size = 32});
  const Error error = error_of([&] { open_writer(plan, model_.inputs()); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_THAT(error.what(), HasSubstr("is the model itself"));
}

TEST(GptqWriterFamilies, WriteBiasesOnce) {
  const TempFolder folder;
  TinyModel::Options options;
  options.architecture = "Qwen2ForCausalLM";
  options.tied = true;
  const TinyModel model(folder / "Tiny", options);
  ExportRequest request;
  request.format = "gptq";
  request.path = folder / "out";
  write_random(model.plan(request, {.bits = 4, .group_size = 32}), model.inputs());
  const io::SafetensorsCheckpoint out(folder / "out");
  EXPECT_NE(out.find("model.layers.0.self_attn.q_proj.bias"), nullptr);
  EXPECT_EQ(out.find("lm_head.weight"), nullptr);
  EXPECT_EQ(out.find("model.layers.0.self_attn.q_proj.weight"), nullptr);
}

}  // namespace
}  // namespace calque::formats
