#include "calque/model/weight_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <limits>

#include "calque/core/error.h"
#include "support/model_fixture.h"
#include "support/temp_folder.h"

namespace calque::model {
namespace {

using calque::testing::TempFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

std::vector<io::TensorDeclaration> declarations_of(const ModelSource& source) {
  std::vector<io::TensorDeclaration> result;
  for (const SourceTensor& tensor : source.tensors())
    result.push_back({tensor.name, tensor.dtype, tensor.shape});
  return result;
}

// A checkpoint of zeros.
void write_zeros(const std::filesystem::path& folder,
                 const std::vector<io::TensorDeclaration>& tensors) {
  io::SafetensorsWriter writer(folder, tensors);
  for (const io::TensorDeclaration& tensor : tensors)
    writer.write(tensor.name, std::vector<std::byte>(tensor.byte_count()));
  writer.finish();
}

// The message of check_against_family on the llama fixture's tensors after `change`.
std::string verdict(const std::function<void(std::vector<io::TensorDeclaration>&)>& change,
                    const std::string& fixture = "llama") {
  const ModelFolder model(family_folder(fixture));
  std::vector<io::TensorDeclaration> tensors = declarations_of(model.source);
  change(tensors);
  const TempFolder folder;
  write_zeros(folder.path(), tensors);
  const CheckpointSource changed(folder.path());
  try {
    check_against_family(changed, model.family);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInput);
    return error.what();
  }
  return "accepted";
}

io::TensorDeclaration& named(std::vector<io::TensorDeclaration>& tensors, const std::string& name) {
  for (io::TensorDeclaration& tensor : tensors)
    if (tensor.name == name) return tensor;
  throw std::runtime_error("no tensor " + name);
}

TEST(CheckAgainstFamily, ReportsAllFaultsAtOnce) {
  const std::string message = verdict([](std::vector<io::TensorDeclaration>& tensors) {
    named(tensors, "model.norm.weight").name = "model.final_norm.weight";
    named(tensors, "model.layers.1.mlp.up_proj.weight").shape = {256, 127};
    named(tensors, "model.layers.0.mlp.up_proj.weight").dtype = DType::kI32;
  });
  EXPECT_THAT(
      message,
      AllOf(HasSubstr("LlamaForCausalLM"), HasSubstr("4 of its tensors differ"),
            HasSubstr("model.norm.weight [128]: missing"),
            HasSubstr("model.final_norm.weight [128]: unexpected"),
            HasSubstr("model.layers.1.mlp.up_proj.weight: shape is [256, 127], config.json asks "
                      "for [256, 128]"),
            HasSubstr("model.layers.0.mlp.up_proj.weight: dtype is I32")));
}

TEST(CheckAgainstFamily, ShowsTheFirstTwentyFaults) {
  const std::string message = verdict([](std::vector<io::TensorDeclaration>& tensors) {
    for (io::TensorDeclaration& tensor : tensors) tensor.name = "transformer." + tensor.name;
  });
  // 21 tensors (2 x 9, embedding, norm, head) are missing under one name and there under another.
  EXPECT_THAT(message, AllOf(HasSubstr("42 of its tensors"), HasSubstr("and 22 more")));
}

TEST(CheckAgainstFamily, IgnoresRotaryBuffersAndATiedHead) {
  const auto extra = [](std::vector<io::TensorDeclaration>& tensors) {
    tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {16}});
  };
  EXPECT_EQ(verdict(extra), "accepted");
  const auto head = [](std::vector<io::TensorDeclaration>& tensors) {
    tensors.push_back({"lm_head.weight", DType::kBF16, {320, 128}});
  };
  EXPECT_EQ(verdict(head, "qwen2"), "accepted");
}

// The family's carried tensors, of the folder `fixture` with `names` added to it.
FamilySpec carrying(const std::vector<std::string>& names, const std::string& fixture = "llama") {
  const ModelFolder model(family_folder(fixture));
  std::vector<io::TensorDeclaration> tensors = declarations_of(model.source);
  for (const std::string& name : names) tensors.push_back({name, DType::kI64, {3}});
  const TempFolder folder;
  write_zeros(folder.path(), tensors);
  FamilySpec family = family_of(model.config);
  const CheckpointSource source(folder.path());
  carry_others(source, family);
  check_against_family(source, family);
  return family;
}

TEST(CarryOthers, KeepsOtherPartsAndLaterLayers) {
  const FamilySpec family = carrying({"mtp.fc.weight", "visual.blocks.0.attn.qkv.weight",
                                      "model.layers.2.eh_proj.weight", "mtp.norm.weight"});
  EXPECT_THAT(carried_parts(family), UnorderedElementsAre("mtp", "visual", "layers.2"));
  EXPECT_EQ(family.carried.size(), 4u);
  EXPECT_TRUE(family.config.remarks.empty());
}

TEST(CarryOthers, TellsPartsThatNobodyKnows) {
  const FamilySpec family = carrying({"model.side.weight", "lm_head.bias"});
  EXPECT_EQ(family.carried.size(), 2u);
  EXPECT_THAT(family.config.remarks, ElementsAre(HasSubstr("lm_head, side")));
}

TEST(CarryOthers, LeavesWhatLiesInABlockToBeRefused) {
  EXPECT_THAT(error_of([] { carrying({"model.layers.1.mlp.extra_proj.weight"}); }),
              HasSubstr("model.layers.1.mlp.extra_proj.weight [3]: unexpected"));
}

TEST(CarryOthers, TellsUnknownPartsBesideMissingTensors) {
  const ModelFolder model(family_folder("llama"));
  std::vector<io::TensorDeclaration> tensors = declarations_of(model.source);
  for (io::TensorDeclaration& tensor : tensors)
    if (tensor.name == "model.norm.weight") tensor.name = "model.final_norm.weight";
  const TempFolder folder;
  write_zeros(folder.path(), tensors);
  const CheckpointSource source(folder.path());
  FamilySpec family = family_of(model.config);
  carry_others(source, family);
  EXPECT_THAT(error_of([&] { check_against_family(source, family); }),
              AllOf(HasSubstr("model.norm.weight [128]: missing"),
                    HasSubstr("model.final_norm.weight [128]: unexpected")));
}

TEST(SettleNames, FindsTheLanguageModelOfAWrapper) {
  EXPECT_EQ(ModelFolder(family_folder("llama")).config.names.model, "model");
  EXPECT_EQ(ModelFolder(family_folder("qwen3_vl")).config.names.model, "model.language_model");
  const ModelFolder mistral(family_folder("mistral3_vl"));
  EXPECT_EQ(mistral.config.names.model, "language_model.model");
  EXPECT_EQ(mistral.family.head().name, "language_model.lm_head.weight");
  EXPECT_EQ(mistral.family.blocks[1].name, "language_model.model.layers.1");
  EXPECT_THAT(carried_parts(mistral.family),
              UnorderedElementsAre("multi_modal_projector", "vision_tower"));
}

// Serves ones of the right shapes, with one changed element or one wrong shape.
class OnesSource : public WeightSource {
 public:
  explicit OnesSource(const BlockSpec& block) {
    for (const TensorSpec& tensor : block.tensors()) shapes_[tensor.name] = tensor.shape;
  }
  bool has(std::string_view name) const override { return shapes_.contains(std::string(name)); }
  Matrix<float> load(std::string_view name) const override {
    const std::vector<Index>& shape = shapes_.at(std::string(name));
    Matrix<float> value(shape.size() == 1 ? 1 : shape[0], shape.back());
    for (Index i = 0; i < value.size(); ++i) value.data()[i] = 1.0f;
    if (name == spoiled) value(value.rows() - 1, 3) = spoil;
    return value;
  }

  std::map<std::string, std::vector<Index>> shapes_;
  std::string spoiled;
  float spoil = 0;
};

TEST(LoadRows, AreRowsOfTheWhole) {
  const ModelFolder model(family_folder("llama"));
  const std::string& name = model.family.embedding.name;
  const Matrix<float> all_VH = model.source.load(name);
  const std::vector<Index> rows{0, 3, 4, all_VH.rows() - 1};
  for (const Matrix<float>& some_UH :
       {model.source.load_rows(name, rows), model.source.WeightSource::load_rows(name, rows)}) {
    ASSERT_EQ(some_UH.rows(), 4);
    ASSERT_EQ(some_UH.cols(), all_VH.cols());
    for (Index u = 0; u < 4; ++u)
      for (Index h = 0; h < all_VH.cols(); ++h)
        ASSERT_EQ(some_UH(u, h), all_VH(rows[static_cast<std::size_t>(u)], h));
  }
  EXPECT_EQ(model.source.load_rows(name, {}).cols(), all_VH.cols());
}

TEST(LoadBlock, HoldsEveryTensorOfTheBlock) {
  const ModelFolder model(family_folder("qwen2"));
  const BlockSpec& block = model.family.blocks[1];
  const BlockWeights weights = load_block(model.source, block);
  for (const TensorSpec& tensor : block.tensors()) {
    const MatrixView<const float> value = weights.at(tensor.name);
    const bool vector = tensor.shape.size() == 1;
    EXPECT_EQ(value.rows(), vector ? 1 : tensor.shape[0]) << tensor.name;
    EXPECT_EQ(value.cols(), tensor.shape.back()) << tensor.name;
  }
}

TEST(LoadBlock, NamesTheFirstNumberThatIsNotFinite) {
  const ModelFolder model(family_folder("llama"));
  const BlockSpec& block = model.family.blocks[1];
  OnesSource source(block);
  EXPECT_NO_THROW(load_block(source, block));
  source.spoiled = "model.layers.1.mlp.down_proj.weight";
  source.spoil = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(error_of([&] { load_block(source, block); }),
              HasSubstr("model.layers.1.mlp.down_proj.weight: row 127, column 3 is nan"));
  source.spoil = -std::numeric_limits<float>::infinity();
  EXPECT_THAT(error_of([&] { load_block(source, block); }), HasSubstr("is -inf"));
  source.spoil = std::numeric_limits<float>::max();
  EXPECT_NO_THROW(load_block(source, block));
}

TEST(LoadBlock, RefusesAnotherShape) {
  const ModelFolder model(family_folder("llama"));
  const BlockSpec& block = model.family.blocks[0];
  OnesSource source(block);
  source.shapes_["model.layers.0.mlp.up_proj.weight"] = {128, 256};
  EXPECT_THAT(error_of([&] { load_block(source, block); }),
              HasSubstr("model.layers.0.mlp.up_proj.weight: shape is [128, 256], config.json asks "
                        "for [256, 128]"));
}

TEST(CheckpointSource, WidensWithoutChangingValues) {
  const ModelFolder model(family_folder("llama"));
  const std::string name = "model.layers.0.self_attn.k_proj.weight";
  const Matrix<float> value = model.source.load(name);
  ASSERT_EQ(value.rows(), 64);
  ASSERT_EQ(value.cols(), 128);
  const TensorBytes stored = model.source.bytes(name);
  const auto bytes = stored.get();
  // bf16 is the upper half of an fp32, little-endian: element (1, 2) is the 130th.
  const auto low = std::to_integer<std::uint16_t>(bytes[2 * 130]);
  const auto high = std::to_integer<std::uint16_t>(bytes[2 * 130 + 1]);
  EXPECT_EQ(value(1, 2), to_float(BFloat16{static_cast<std::uint16_t>(low | (high << 8))}));
  EXPECT_NE(value(1, 2), 0.0f);
}

TEST(CheckpointSource, PrefetchesByName) {
  const ModelFolder model(family_folder("llama"));
  const std::string name = "model.layers.0.self_attn.k_proj.weight";
  model.source.prefetch(name);
  EXPECT_NE(model.source.load(name)(0, 0), 0.0f);
  EXPECT_THROW(model.source.prefetch("model.layers.0.self_attn.z_proj.weight"), Error);
}

TEST(CheckpointSource, GivesAVectorAsOneRow) {
  const ModelFolder model(family_folder("llama"));
  const Matrix<float> norm = model.source.load("model.norm.weight");
  EXPECT_EQ(norm.rows(), 1);
  EXPECT_EQ(norm.cols(), 128);
  EXPECT_TRUE(model.source.has("model.norm.weight"));
  EXPECT_FALSE(model.source.has("model.norm.bias"));
  EXPECT_THAT(error_of([&] { model.source.load("model.norm.bias"); }),
              HasSubstr("model.norm.bias"));
}

TEST(BlockWeights, LeavesNoValueAfterTakeUntilPut) {
  BlockWeights weights;
  weights.put("a", Matrix<float>(2, 3));
  EXPECT_EQ(weights.take("a").cols(), 3);
  EXPECT_THAT(error_of([&] { weights.at("a"); }), HasSubstr("no weight 'a'"));
  weights.put("a", Matrix<float>(4, 5));
  EXPECT_EQ(weights.at("a").rows(), 4);
  EXPECT_TRUE(weights.has("a"));
  EXPECT_FALSE(weights.has("b"));
}

}  // namespace
}  // namespace calque::model
