// Experts that a checkpoint stores in one tensor of three dimensions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <span>

#include "calque/io/safetensors.h"
#include "calque/model/expert_stacks.h"
#include "calque/model/weight_source.h"
#include "support/model_fixture.h"
#include "support/temp_folder.h"

namespace calque::model {
namespace {

using calque::testing::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kFolder = "model.layers.0.mlp.experts.";

struct Stored {
  std::string name;
  DType dtype;
  std::vector<Index> shape;
  std::vector<std::byte> bytes;
};

// fp32 values 0, 1, 2, ...
Stored counting(const std::string& name, std::vector<Index> shape) {
  std::size_t count = 1;
  for (const Index n : shape) count *= static_cast<std::size_t>(n);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  const auto bytes = std::as_bytes(std::span(values));
  return {kFolder + name, DType::kF32, std::move(shape), {bytes.begin(), bytes.end()}};
}

class StackedExpertsIn : public ::testing::Test {
 protected:
  void write(const std::vector<Stored>& tensors) {
    std::vector<io::TensorDeclaration> declarations;
    for (const Stored& t : tensors) declarations.push_back({t.name, t.dtype, t.shape});
    io::SafetensorsWriter writer(folder_.path(), declarations);
    for (const Stored& t : tensors) writer.write(t.name, t.bytes);
    writer.finish();
  }
  std::vector<float> values(const std::string& name, StackedExperts layout) const {
    const Matrix<float> loaded = CheckpointSource(folder_.path(), layout).load(kFolder + name);
    return {loaded.data(), loaded.data() + loaded.size()};
  }
  TempFolder folder_;
};

// Two experts, two rows each of gate and up, three inputs.
TEST_F(StackedExpertsIn, RowsAreGatesFirstThenUps) {
  write({counting("gate_up_proj", {2, 4, 3}), counting("down_proj", {2, 3, 2})});
  using enum StackedExperts;
  EXPECT_THAT(values("0.gate_proj.weight", kRows), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(values("0.up_proj.weight", kRows), ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_THAT(values("1.gate_proj.weight", kRows), ElementsAre(12, 13, 14, 15, 16, 17));
  EXPECT_THAT(values("1.down_proj.weight", kRows), ElementsAre(6, 7, 8, 9, 10, 11));
}

TEST_F(StackedExpertsIn, ColumnsAreTransposed) {
  write({counting("gate_up_proj", {2, 3, 4}), counting("down_proj", {2, 2, 3})});
  using enum StackedExperts;
  EXPECT_THAT(values("0.gate_proj.weight", kColumns), ElementsAre(0, 4, 8, 1, 5, 9));
  EXPECT_THAT(values("1.up_proj.weight", kColumns), ElementsAre(14, 18, 22, 15, 19, 23));
  EXPECT_THAT(values("0.down_proj.weight", kColumns), ElementsAre(0, 3, 1, 4, 2, 5));
}

// Three inputs, a width of two: [E, 4, 3] and [E, 3, 2] can only be rows.
TEST_F(StackedExpertsIn, ColumnsThatTransformersSavedAsRowsAreRead) {
  write({counting("gate_up_proj", {2, 4, 3}), counting("down_proj", {2, 3, 2})});
  using enum StackedExperts;
  EXPECT_THAT(values("0.gate_proj.weight", kColumns), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(values("1.down_proj.weight", kColumns), ElementsAre(6, 7, 8, 9, 10, 11));
}

TEST_F(StackedExpertsIn, AlternatingColumnsBelongToGateAndUpInTurn) {
  write({counting("gate_up_proj", {1, 3, 4}), counting("gate_up_proj_bias", {2, 4}),
         counting("down_proj_bias", {2, 3})});
  using enum StackedExperts;
  EXPECT_THAT(values("0.gate_proj.weight", kAlternatingColumns), ElementsAre(0, 4, 8, 2, 6, 10));
  EXPECT_THAT(values("0.up_proj.weight", kAlternatingColumns), ElementsAre(1, 5, 9, 3, 7, 11));
  EXPECT_THAT(values("1.gate_proj.bias", kAlternatingColumns), ElementsAre(4, 6));
  EXPECT_THAT(values("1.up_proj.bias", kAlternatingColumns), ElementsAre(5, 7));
  EXPECT_THAT(values("1.down_proj.bias", kAlternatingColumns), ElementsAre(3, 4, 5));
}

// One row of gate and one of up, 32 inputs: bytes hold two codes, the low one first.
TEST_F(StackedExpertsIn, Mxfp4IsCodeTimesAPowerOfTwo) {
  std::vector<std::byte> codes(2 * 16);
  codes[0] = std::byte{0x71};   // gate: .5, 6
  codes[1] = std::byte{0x9a};   // -1, -.5
  codes[16] = std::byte{0x04};  // up: 2, 0
  write(
      {{kFolder + "gate_up_proj_blocks", DType::kU8, {1, 2, 1, 16}, codes},
       {kFolder + "gate_up_proj_scales", DType::kU8, {1, 2, 1}, {std::byte{128}, std::byte{124}}}});
  const CheckpointSource source(folder_.path(), StackedExperts::kAlternatingColumns);
  EXPECT_EQ(source.tensors().size(), 2u);
  EXPECT_EQ(source.at(kFolder + "0.gate_proj.weight").dtype, DType::kBF16);
  const std::vector<float> gate = values("0.gate_proj.weight", StackedExperts::kAlternatingColumns);
  EXPECT_THAT(std::vector<float>(gate.begin(), gate.begin() + 5), ElementsAre(1, 12, -2, -1, 0));
  EXPECT_EQ(values("0.up_proj.weight", StackedExperts::kAlternatingColumns)[0], 0.25f);
  const std::vector<std::byte> blocks = source.mxfp4_blocks(kFolder + "0.gate_proj.weight");
  ASSERT_EQ(blocks.size(), 17u);
  EXPECT_EQ(blocks[0], std::byte{128});
  EXPECT_EQ(blocks[1], std::byte{0x01});  // code 0 and code 16, which is 0
  EXPECT_EQ(blocks[2], std::byte{0x07});
  EXPECT_EQ(source.at(kFolder + "0.gate_proj.weight").stored_bytes(), 17u);
  ASSERT_EQ(source.stacks().size(), 1u);
  EXPECT_EQ(source.stacks()[0].stored.size(), 2u);  // the blocks and their scales
  EXPECT_EQ(source.bytes(kFolder + "gate_up_proj_blocks").get().size(), 32u);
}

TEST_F(StackedExpertsIn, ShapesThatDoNotFitAreRefused) {
  write({counting("gate_up_proj", {2, 3, 3})});
  const auto opened = [&](StackedExperts layout) {
    return error_of([&] { CheckpointSource(folder_.path(), layout); });
  };
  EXPECT_THAT(opened(StackedExperts::kRows), HasSubstr("as many rows of gate as of up"));
  write({counting("down_proj", {4, 3})});
  EXPECT_THAT(opened(StackedExperts::kRows), HasSubstr("must have 3 dimensions"));
}

TEST_F(StackedExpertsIn, WithoutALayoutTensorsAreGivenOutAsTheyAre) {
  write({counting("gate_up_proj", {2, 4, 3})});
  const CheckpointSource source(folder_.path());
  EXPECT_EQ(source.tensors().at(0).name, kFolder + "gate_up_proj");
  EXPECT_TRUE(source.stacks().empty());
}

// Stacks written by either layout are taken apart into the same matrices and biases.
TEST(ExpertStacks, AreWhatASourceTakesApart) {
  const ModelFolder model(family_folder("gpt_oss"));
  for (const StackedExperts layout :
       {StackedExperts::kColumns, StackedExperts::kAlternatingColumns}) {
    const std::vector<ExpertStack> stacks = expert_stacks(model.family, layout);
    ASSERT_EQ(stacks.size(), 3u * 4);
    EXPECT_EQ(stacks[0].name, kFolder + "gate_up_proj");
    EXPECT_THAT(stacks[0].shape, ElementsAre(5, 128, 128));
    EXPECT_EQ(stacks[1].name, kFolder + "gate_up_proj_bias");
    EXPECT_THAT(stacks[1].shape, ElementsAre(5, 128));
    const TempFolder folder;
    std::vector<io::TensorDeclaration> declarations;
    for (const ExpertStack& stack : stacks)
      declarations.push_back({stack.name, DType::kF32, stack.shape});
    io::SafetensorsWriter writer(folder.path(), declarations);
    for (const ExpertStack& stack : stacks) {
      std::vector<std::byte> all;
      for (Index e = 0; e < 5; ++e) {
        const Matrix<float> expert = stacked_expert(stack, e, layout, model.source);
        const auto bytes =
            std::as_bytes(std::span(expert.data(), static_cast<std::size_t>(expert.size())));
        all.insert(all.end(), bytes.begin(), bytes.end());
      }
      writer.write(stack.name, all);
    }
    writer.finish();
    const CheckpointSource written(folder.path(), layout);
    EXPECT_EQ(written.tensors().size(), 3u * 5 * 6);
    for (const SourceTensor& tensor : written.tensors()) {
      const Matrix<float> expected = model.source.load(tensor.name);
      const Matrix<float> read = written.load(tensor.name);
      ASSERT_EQ(read.size(), expected.size()) << tensor.name;
      EXPECT_TRUE(std::equal(read.data(), read.data() + read.size(), expected.data()))
          << tensor.name;
    }
  }
  EXPECT_TRUE(expert_stacks(model.family, StackedExperts::kRows).empty());
}

}  // namespace
}  // namespace calque::model
