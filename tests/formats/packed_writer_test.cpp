// Every kind of folder of packed tensors, written and read back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/file.h"
#include "calque/io/json.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using io::Json;
using testing::expect_same;
using testing::TinyModel;
using testing::write_random;

struct Container {
  std::string name;
  std::string format;
  QuantizationRequest quantization;
  std::string checkpoint_format = "auto";
  std::string scale_dtype = "auto";
  bool desc_act = false;
  DType dtype = DType::kBF16;
};
void PrintTo(const Container& v, std::ostream* out) { *out << v.name; }

ModuleRule rule_for(const std::string& match) {
  ModuleRule rule;
  rule.match = match;
  return rule;
}
ModuleRule with_head() {
  ModuleRule head = rule_for("lm_head");
  head.skip = false;
  return head;
}
ModuleRule skipped(const std::string& match) {
  ModuleRule skipped = rule_for(match);
  skipped.skip = true;
  return skipped;
}
ModuleRule changed(const std::string& match, std::optional<int> bits, std::optional<Index> group,
                   std::optional<bool> sym) {
  ModuleRule changed = rule_for(match);
  changed.bits = bits;
  changed.group_size = group;
  changed.sym = sym;
  return changed;
}

QuantizationRequest uniform(int bits, bool sym, Index group_size = 32) {
  QuantizationRequest request;
  request.bits = bits;
  request.group_size = group_size;
  request.sym = sym;
  return request;
}
QuantizationRequest with_rules(QuantizationRequest request, std::vector<ModuleRule> rules) {
  request.rules = std::move(rules);
  return request;
}

QuantizationRequest mixed() {
  return with_rules(uniform(4, true),
                    {changed("*.down_proj", 8, -1, std::nullopt),
                     changed("model.layers.1.self_attn.o_proj", std::nullopt, 64, false),
                     skipped("re:model\\.layers\\.0\\.self_attn\\.[qkv]_proj"), with_head(),
                     changed("lm_head", 8, std::nullopt, std::nullopt)});
}

class PackedFolders : public ::testing::TestWithParam<Container> {
 protected:
  PackedFolders() : model_(folder_ / "Tiny", options()) {}
  static TinyModel::Options options() {
    TinyModel::Options options;
    options.architecture = "Qwen2ForCausalLM";  // q, k and v have biases
    options.vocab = 64;
    options.dtype = GetParam().dtype;
    return options;
  }
  ExportPlan plan() const {
    ExportRequest request;
    request.format = GetParam().format;
    request.path = folder_ / "out";
    request.checkpoint_format = GetParam().checkpoint_format;
    request.scale_dtype = GetParam().scale_dtype;
    request.desc_act = GetParam().desc_act;
    return model_.plan(request, GetParam().quantization);
  }

  TempFolder folder_;
  TinyModel model_;
};

TEST_P(PackedFolders, GiveBackEveryBit) {
  const auto written = write_random(plan(), model_.inputs());
  const auto reader = open_artifact(folder_ / "out");
  ASSERT_FALSE(written.empty());
  for (const auto& [name, q] : written) {
    SCOPED_TRACE(name);
    auto read = reader->quantized(name);
    ASSERT_TRUE(read.has_value());
    // AWQ folders do not say that all zero points are 8.
    if (GetParam().format == "awq") read->grid.offset_kind = q.grid.offset_kind;
    expect_same(*read, q);
    EXPECT_EQ(read->grid.group_size_for(q.in_features()), q.grid.group_size_for(q.in_features()));
    EXPECT_EQ(testing::sha256_of(reader->load(name)), testing::sha256_of(quant::dequantize(q)));
  }
}

TEST_P(PackedFolders, TakeTheBytesThatWerePlanned) {
  const ExportPlan planned = plan();
  write_random(planned, model_.inputs());
  EXPECT_EQ(io::SafetensorsCheckpoint(folder_ / "out").total_bytes(), planned.tensor_bytes);
  EXPECT_DOUBLE_EQ(open_artifact(folder_ / "out")->bits_per_weight(), planned.bits_per_weight);
}

TEST_P(PackedFolders, CopyWhatIsNotQuantizedAndNothingTwice) {
  const ExportPlan planned = plan();
  write_random(planned, model_.inputs());
  const io::SafetensorsCheckpoint out(folder_ / "out");
  for (const TensorPlan& tensor : planned.tensors) {
    const io::TensorRef* copy = out.find(tensor.tensor.name);
    ASSERT_EQ(copy == nullptr, tensor.grid.has_value()) << tensor.tensor.name;
    if (copy == nullptr) continue;
    EXPECT_EQ(copy->dtype, model_.source().at(tensor.tensor.name).dtype);
    EXPECT_TRUE(std::ranges::equal(copy->bytes, model_.source().bytes(tensor.tensor.name).get()));
  }
  EXPECT_NE(out.find("model.layers.1.self_attn.q_proj.bias"), nullptr);
}

TEST_P(PackedFolders, SayThatTheyAreForPyTorch) {
  write_random(plan(), model_.inputs());
  const io::SafetensorsFile file(folder_ / "out" / "model.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const Json config = io::parse_json(io::read_file(folder_ / "out" / "config.json"));
  EXPECT_EQ(config.members().back().name, "quantization_config");
  EXPECT_EQ(config.at("quantization_config").at("quant_method"), GetParam().format);
}

INSTANTIATE_TEST_SUITE_P(
    All, PackedFolders,
    ::testing::Values(
        Container{"gptq4sym", "gptq", uniform(4, true)},
        Container{"gptq3asym", "gptq", uniform(3, false)},
        Container{"gptq2rowsym", "gptq", uniform(2, true, -1)},
        Container{"gptq8v1asym", "gptq", uniform(8, false), "gptq"},
        Container{"gptq4descact", "gptq", uniform(4, true), "auto", "auto", true},
        Container{"gptq4descactv2", "gptq", uniform(4, false), "auto", "bfloat16", true},
        Container{"gptqmixed", "gptq", mixed()}, Container{"gptqmixedv1", "gptq", mixed(), "gptq"},
        Container{"gptqmixeddescact", "gptq", mixed(), "auto", "auto", true},
        Container{"gptq3head", "gptq", with_rules(uniform(3, true), {with_head()})},
        Container{"awqsym", "awq", uniform(4, true)},
        Container{"awqasym", "awq", uniform(4, false)},
        Container{"awqrow", "awq", uniform(4, false, -1), "auto", "bfloat16"},
        Container{
            "awqmixed", "awq",
            with_rules(uniform(4, true), {changed("*.down_proj", std::nullopt, std::nullopt, false),
                                          skipped("*.0.self_attn.*"), with_head()})},
        Container{"ct4sym", "compressed-tensors", uniform(4, true)},
        Container{"ct4asym", "compressed-tensors", uniform(4, false), "auto", "float16"},
        Container{"ct8sym", "compressed-tensors", uniform(8, true), "auto", "bfloat16"},
        Container{"ct8asym", "compressed-tensors", uniform(8, false), "auto", "auto", false,
                  DType::kF16},
        Container{"ct4rowasym", "compressed-tensors", uniform(4, false, -1)},
        Container{"ct4head", "compressed-tensors", with_rules(uniform(4, true), {with_head()})},
        Container{"ctmixed", "compressed-tensors", mixed()}),
    [](const auto& tested) { return tested.param.name; });

// The same codes, scales and zero points mean the same fp32 weights in every container.
TEST(PackedContainers, DecodeTheSameNumbersToTheSameWeights) {
  const TempFolder folder;
  TinyModel::Options options;
  options.layers = 1;
  const TinyModel model(folder / "Tiny", options);
  std::map<std::string, std::string> expected;
  const std::vector<std::pair<std::string, std::string>> containers = {
      {"gptq", "gptq"}, {"gptq", "gptq_v2"}, {"awq", "auto"}, {"compressed-tensors", "auto"}};
  for (const auto& [format, checkpoint_format] : containers) {
    ExportRequest request;
    request.format = format;
    request.checkpoint_format = checkpoint_format;
    request.path = folder / (format + checkpoint_format);
    request.scale_dtype = "bfloat16";
    const ExportPlan plan = model.plan(request, uniform(4, false));
    auto writer = open_writer(plan, model.inputs());
    for (const TensorPlan& planned : plan.tensors) {
      if (!planned.grid) continue;
      quant::Grid grid = *planned.grid;
      grid.min_zero = 1;  // v1 stores no 0
      quant::QuantizedMatrix q =
          testing::random_quantized(grid, planned.tensor.shape[0], planned.tensor.shape[1], 9);
      q.grid = *planned.grid;
      writer->write(planned.tensor.name, q);
    }
    writer->finish();
    const auto reader = open_artifact(request.path);
    for (const TensorPlan& planned : plan.tensors) {
      const std::string sha = testing::sha256_of(reader->load(planned.tensor.name));
      const auto [first, added] = expected.emplace(planned.tensor.name, sha);
      EXPECT_EQ(first->second, sha) << planned.tensor.name << " in " << format;
    }
  }
}

TEST(PackedContainers, PlanScalesThatTheContainerHolds) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});  // BF16
  const auto precision = [&](const std::string& format, const std::string& scale_dtype) {
    ExportRequest request;
    request.format = format;
    request.scale_dtype = scale_dtype;
    return model.plan(request, uniform(4, true))
        .at("model.layers.0.mlp.up_proj.weight")
        .grid->precision;
  };
  for (const char* format : {"gptq", "awq"}) {
    EXPECT_EQ(precision(format, "auto"), ScalePrecision::kF16);
    EXPECT_EQ(precision(format, "float16"), ScalePrecision::kF16);
    EXPECT_EQ(precision(format, "bfloat16"), ScalePrecision::kF16AndBF16);
  }
  EXPECT_EQ(precision("compressed-tensors", "auto"), ScalePrecision::kBF16);
  EXPECT_EQ(precision("compressed-tensors", "float16"), ScalePrecision::kF16);
  EXPECT_EQ(precision("compressed-tensors", "bfloat16"), ScalePrecision::kF16AndBF16);
}

}  // namespace
}  // namespace calque::formats
