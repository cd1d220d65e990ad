#pragma once

#include <cstdint>
#include <string_view>

#include "calque/ggml/types.h"

// The reference quantizers (ggml 0.21, compiled without fused multiply-add) make this of the inputs
// of ggml_samples.h: CRC-32 of all bytes of two rows of 256 weights.
namespace calque {

enum class GgmlInput {
  kNoise,
  kNoiseUnimportant,  // an importance of zero everywhere
  kZeros,
  kOnes,
  kMinusOnes,
  kRamp,
  kNegativeRamp,
  kSpikes,
  kTiny,
};

struct GoldenCrc {
  ggml::Type type;
  GgmlInput input;
  std::uint32_t plain;
  std::uint32_t weighted;
};

inline constexpr GoldenCrc kGoldenCrcs[] = {
    {ggml::Type::kQ4_0, GgmlInput::kNoise, 0x6ac8b5a9, 0x38df8452},
    {ggml::Type::kQ4_0, GgmlInput::kZeros, 0x4d57720a, 0xebf26a52},
    {ggml::Type::kQ4_0, GgmlInput::kOnes, 0xa283c296, 0xf9591afd},
    {ggml::Type::kQ4_0, GgmlInput::kMinusOnes, 0xa7aee68f, 0xfc743ee4},
    {ggml::Type::kQ4_0, GgmlInput::kNoiseUnimportant, 0x6ac8b5a9, 0xdbedcd94},
    {ggml::Type::kQ4_0, GgmlInput::kRamp, 0x602de318, 0x4960a849},
    {ggml::Type::kQ4_0, GgmlInput::kNegativeRamp, 0xd32fa756, 0x3f662c7a},
    {ggml::Type::kQ4_0, GgmlInput::kSpikes, 0x99c7c628, 0x1952f71e},
    {ggml::Type::kQ4_0, GgmlInput::kTiny, 0xf16cd56f, 0xebf26a52},
    {ggml::Type::kQ4_1, GgmlInput::kNoise, 0x673e97a2, 0xd891b81c},
    {ggml::Type::kQ4_1, GgmlInput::kZeros, 0xadc7574d, 0xadc7574d},
    {ggml::Type::kQ4_1, GgmlInput::kOnes, 0xc70bff62, 0xe94c314e},
    {ggml::Type::kQ4_1, GgmlInput::kMinusOnes, 0x19e3cb16, 0x19e3cb16},
    {ggml::Type::kQ4_1, GgmlInput::kNoiseUnimportant, 0x673e97a2, 0x673e97a2},
    {ggml::Type::kQ4_1, GgmlInput::kRamp, 0x1d8d32fa, 0xe1171ea9},
    {ggml::Type::kQ4_1, GgmlInput::kNegativeRamp, 0x70919ba2, 0x9d2bfea4},
    {ggml::Type::kQ4_1, GgmlInput::kSpikes, 0xa6a087c1, 0xa6a087c1},
    {ggml::Type::kQ4_1, GgmlInput::kTiny, 0x0cbc9f6f, 0x0cbc9f6f},
    {ggml::Type::kQ5_0, GgmlInput::kNoise, 0xf24db36e, 0xb6714389},
    {ggml::Type::kQ5_0, GgmlInput::kZeros, 0x3cddf216, 0xfbad4669},
    {ggml::Type::kQ5_0, GgmlInput::kOnes, 0xb5d10a4d, 0x4c88b7ac},
    {ggml::Type::kQ5_0, GgmlInput::kMinusOnes, 0xa1807eb0, 0x58d9c351},
    {ggml::Type::kQ5_0, GgmlInput::kNoiseUnimportant, 0xf24db36e, 0x545af377},
    {ggml::Type::kQ5_0, GgmlInput::kRamp, 0x85e9845a, 0x79fe7ef7},
    {ggml::Type::kQ5_0, GgmlInput::kNegativeRamp, 0x78d7cb2d, 0x0a82cd75},
    {ggml::Type::kQ5_0, GgmlInput::kSpikes, 0x90bebcb1, 0x324bc1fa},
    {ggml::Type::kQ5_0, GgmlInput::kTiny, 0xb55ba5fc, 0xfbad4669},
    {ggml::Type::kQ5_1, GgmlInput::kNoise, 0xba7ba245, 0x08e82c91},
    {ggml::Type::kQ5_1, GgmlInput::kZeros, 0x88bad147, 0x88bad147},
    {ggml::Type::kQ5_1, GgmlInput::kOnes, 0x8cda3874, 0x5c1e3a83},
    {ggml::Type::kQ5_1, GgmlInput::kMinusOnes, 0x22c45aeb, 0x22c45aeb},
    {ggml::Type::kQ5_1, GgmlInput::kNoiseUnimportant, 0xba7ba245, 0xba7ba245},
    {ggml::Type::kQ5_1, GgmlInput::kRamp, 0x07322158, 0x198b12c3},
    {ggml::Type::kQ5_1, GgmlInput::kNegativeRamp, 0xbb948e1b, 0xbb948e1b},
    {ggml::Type::kQ5_1, GgmlInput::kSpikes, 0x5c9e4f7f, 0x5c9e4f7f},
    {ggml::Type::kQ5_1, GgmlInput::kTiny, 0x8c9197f3, 0x8c9197f3},
    {ggml::Type::kQ8_0, GgmlInput::kNoise, 0x811461dd, 0x811461dd},
    {ggml::Type::kQ8_0, GgmlInput::kZeros, 0x90ab996f, 0x90ab996f},
    {ggml::Type::kQ8_0, GgmlInput::kOnes, 0xff09dfcf, 0xff09dfcf},
    {ggml::Type::kQ8_0, GgmlInput::kMinusOnes, 0xd584cde5, 0xd584cde5},
    {ggml::Type::kQ8_0, GgmlInput::kNoiseUnimportant, 0x811461dd, 0x811461dd},
    {ggml::Type::kQ8_0, GgmlInput::kRamp, 0x253f2eac, 0x253f2eac},
    {ggml::Type::kQ8_0, GgmlInput::kNegativeRamp, 0x3782b95f, 0x3782b95f},
    {ggml::Type::kQ8_0, GgmlInput::kSpikes, 0x01c77e85, 0x01c77e85},
    {ggml::Type::kQ8_0, GgmlInput::kTiny, 0x1a62f231, 0x1a62f231},
    {ggml::Type::kQ2_K, GgmlInput::kNoise, 0x9758e475, 0xf686b10b},
    {ggml::Type::kQ2_K, GgmlInput::kZeros, 0x0ee93c94, 0x0ee93c94},
    {ggml::Type::kQ2_K, GgmlInput::kOnes, 0xde4538c2, 0xde4538c2},
    {ggml::Type::kQ2_K, GgmlInput::kMinusOnes, 0x123652f2, 0x123652f2},
    {ggml::Type::kQ2_K, GgmlInput::kNoiseUnimportant, 0x9758e475, 0xa47bbd48},
    {ggml::Type::kQ2_K, GgmlInput::kRamp, 0x455fc4d8, 0xe4d0aa71},
    {ggml::Type::kQ2_K, GgmlInput::kNegativeRamp, 0xc7e4c3d5, 0x43060732},
    {ggml::Type::kQ2_K, GgmlInput::kSpikes, 0x64231300, 0x64231300},
    {ggml::Type::kQ2_K, GgmlInput::kTiny, 0xa47bbd48, 0x51c368a3},
    {ggml::Type::kQ3_K, GgmlInput::kNoise, 0x5af3eeab, 0x3c6f884f},
    {ggml::Type::kQ3_K, GgmlInput::kZeros, 0x5146e6c9, 0x5146e6c9},
    {ggml::Type::kQ3_K, GgmlInput::kOnes, 0x0a1b8398, 0xd3bc60ee},
    {ggml::Type::kQ3_K, GgmlInput::kMinusOnes, 0xbc1f109d, 0x65b8f3eb},
    {ggml::Type::kQ3_K, GgmlInput::kNoiseUnimportant, 0x5af3eeab, 0x50c88182},
    {ggml::Type::kQ3_K, GgmlInput::kRamp, 0x35f036b4, 0x2927a5c6},
    {ggml::Type::kQ3_K, GgmlInput::kNegativeRamp, 0x3566f5e8, 0x648d260e},
    {ggml::Type::kQ3_K, GgmlInput::kSpikes, 0x6301f1bc, 0x6301f1bc},
    {ggml::Type::kQ3_K, GgmlInput::kTiny, 0x5146e6c9, 0x5146e6c9},
    {ggml::Type::kQ4_K, GgmlInput::kNoise, 0x312b7f93, 0x3f205d5d},
    {ggml::Type::kQ4_K, GgmlInput::kZeros, 0xebf26a52, 0xebf26a52},
    {ggml::Type::kQ4_K, GgmlInput::kOnes, 0x788c9939, 0x788c9939},
    {ggml::Type::kQ4_K, GgmlInput::kMinusOnes, 0xbab9683f, 0xbab9683f},
    {ggml::Type::kQ4_K, GgmlInput::kNoiseUnimportant, 0x312b7f93, 0xdb603074},
    {ggml::Type::kQ4_K, GgmlInput::kRamp, 0x8fa4ab3e, 0x774dac48},
    {ggml::Type::kQ4_K, GgmlInput::kNegativeRamp, 0xfaf5f998, 0xa432e8bc},
    {ggml::Type::kQ4_K, GgmlInput::kSpikes, 0xeb5e7f33, 0xeb5e7f33},
    {ggml::Type::kQ4_K, GgmlInput::kTiny, 0xdb603074, 0x012c6967},
    {ggml::Type::kQ5_K, GgmlInput::kNoise, 0x6f29a6ed, 0x320cb719},
    {ggml::Type::kQ5_K, GgmlInput::kZeros, 0xfbad4669, 0xfbad4669},
    {ggml::Type::kQ5_K, GgmlInput::kOnes, 0xb1d960d2, 0xb1d960d2},
    {ggml::Type::kQ5_K, GgmlInput::kMinusOnes, 0xd25745f1, 0xd25745f1},
    {ggml::Type::kQ5_K, GgmlInput::kNoiseUnimportant, 0x6f29a6ed, 0xd098153e},
    {ggml::Type::kQ5_K, GgmlInput::kRamp, 0x67159266, 0x8ae24c3b},
    {ggml::Type::kQ5_K, GgmlInput::kNegativeRamp, 0x493d646f, 0x9b29958c},
    {ggml::Type::kQ5_K, GgmlInput::kSpikes, 0x4798432f, 0x4798432f},
    {ggml::Type::kQ5_K, GgmlInput::kTiny, 0xd098153e, 0x4c429bca},
    {ggml::Type::kQ6_K, GgmlInput::kNoise, 0xb66641d9, 0x21c695a8},
    {ggml::Type::kQ6_K, GgmlInput::kZeros, 0x49283716, 0x49283716},
    {ggml::Type::kQ6_K, GgmlInput::kOnes, 0x6f630ac1, 0x6f630ac1},
    {ggml::Type::kQ6_K, GgmlInput::kMinusOnes, 0xc51a4325, 0xc51a4325},
    {ggml::Type::kQ6_K, GgmlInput::kNoiseUnimportant, 0xb66641d9, 0x49283716},
    {ggml::Type::kQ6_K, GgmlInput::kRamp, 0x6ce741c3, 0xe29d6fe5},
    {ggml::Type::kQ6_K, GgmlInput::kNegativeRamp, 0x31ee607d, 0x6c2eec76},
    {ggml::Type::kQ6_K, GgmlInput::kSpikes, 0x6d1c6c2c, 0x6d1c6c2c},
    {ggml::Type::kQ6_K, GgmlInput::kTiny, 0x49283716, 0x49283716},
    {ggml::Type::kIQ4_NL, GgmlInput::kNoise, 0xea4bf8d4, 0x081058f3},
    {ggml::Type::kIQ4_NL, GgmlInput::kZeros, 0x487a5613, 0x487a5613},
    {ggml::Type::kIQ4_NL, GgmlInput::kOnes, 0xe644866f, 0xe644866f},
    {ggml::Type::kIQ4_NL, GgmlInput::kMinusOnes, 0xe369a276, 0xe369a276},
    {ggml::Type::kIQ4_NL, GgmlInput::kNoiseUnimportant, 0xea4bf8d4, 0x487a5613},
    {ggml::Type::kIQ4_NL, GgmlInput::kRamp, 0x1f0f540b, 0xc59ad832},
    {ggml::Type::kIQ4_NL, GgmlInput::kNegativeRamp, 0x099d2b9e, 0x64ba62fb},
    {ggml::Type::kIQ4_NL, GgmlInput::kSpikes, 0xb4635f65, 0x9da13b65},
    {ggml::Type::kIQ4_NL, GgmlInput::kTiny, 0x487a5613, 0x487a5613},
    {ggml::Type::kIQ4_XS, GgmlInput::kNoise, 0x4c57f44c, 0x2fa9094f},
    {ggml::Type::kIQ4_XS, GgmlInput::kZeros, 0x224f913d, 0x224f913d},
    {ggml::Type::kIQ4_XS, GgmlInput::kOnes, 0xcd9abb2f, 0xcd9abb2f},
    {ggml::Type::kIQ4_XS, GgmlInput::kMinusOnes, 0x6057713a, 0x6057713a},
    {ggml::Type::kIQ4_XS, GgmlInput::kNoiseUnimportant, 0x4c57f44c, 0x224f913d},
    {ggml::Type::kIQ4_XS, GgmlInput::kRamp, 0xd74f6fd9, 0xc8efc64b},
    {ggml::Type::kIQ4_XS, GgmlInput::kNegativeRamp, 0xa340da0e, 0x8ab4d60f},
    {ggml::Type::kIQ4_XS, GgmlInput::kSpikes, 0x44374a5a, 0xab584745},
    {ggml::Type::kIQ4_XS, GgmlInput::kTiny, 0x224f913d, 0x224f913d},
    {ggml::Type::kMXFP4, GgmlInput::kNoise, 0x0b3c0f33, 0x0b3c0f33},
    {ggml::Type::kMXFP4, GgmlInput::kZeros, 0x70deaa08, 0x70deaa08},
    {ggml::Type::kMXFP4, GgmlInput::kOnes, 0xad443580, 0xad443580},
    {ggml::Type::kMXFP4, GgmlInput::kMinusOnes, 0x302b1255, 0x302b1255},
    {ggml::Type::kMXFP4, GgmlInput::kNoiseUnimportant, 0x0b3c0f33, 0x0b3c0f33},
    {ggml::Type::kMXFP4, GgmlInput::kRamp, 0x41bb9604, 0x41bb9604},
    {ggml::Type::kMXFP4, GgmlInput::kNegativeRamp, 0x62de2c15, 0x62de2c15},
    {ggml::Type::kMXFP4, GgmlInput::kSpikes, 0x8a5f4031, 0x8a5f4031},
    {ggml::Type::kMXFP4, GgmlInput::kTiny, 0xbf50712a, 0xbf50712a},
    {ggml::Type::kTQ1_0, GgmlInput::kNoise, 0x2378bd23, 0x2378bd23},
    {ggml::Type::kTQ2_0, GgmlInput::kNoise, 0x5cf29e0b, 0x5cf29e0b},
};

// Root mean square error on the noise.
struct GoldenError {
  ggml::Type type;
  double plain;
  double weighted;
};

inline constexpr GoldenError kGoldenErrors[] = {
    {ggml::Type::kQ4_0, 0.03822224, 0.03570817},   {ggml::Type::kQ4_1, 0.03604557, 0.03309371},
    {ggml::Type::kQ5_0, 0.01778223, 0.01728639},   {ggml::Type::kQ5_1, 0.01675639, 0.01530266},
    {ggml::Type::kQ8_0, 0.00225373, 0.00225373},   {ggml::Type::kQ2_K, 0.13163063, 0.12795852},
    {ggml::Type::kQ3_K, 0.07141231, 0.06826346},   {ggml::Type::kQ4_K, 0.03327898, 0.03321136},
    {ggml::Type::kQ5_K, 0.01595700, 0.01591209},   {ggml::Type::kQ6_K, 0.00767059, 0.00756850},
    {ggml::Type::kIQ4_NL, 0.03785805, 0.03760149}, {ggml::Type::kIQ4_XS, 0.03809383, 0.03798141},
    {ggml::Type::kMXFP4, 0.08728855, 0.08728855},  {ggml::Type::kTQ1_0, 0.28860635, 0.28860635},
    {ggml::Type::kTQ2_0, 0.28860635, 0.28860635},
};

// The first block of the noise.
struct GoldenBlock {
  ggml::Type type;
  bool weighted;
  std::string_view hex;
};

inline constexpr GoldenBlock kGoldenBlocks[] = {
    {ggml::Type::kQ4_0, false, "bc2fe456b89b31161d5920ba94674acef43f"},
    {ggml::Type::kQ4_1, false, "1d30bcbbd355a88b31151c5820ba946649bde33f"},
    {ggml::Type::kQ5_0, false, "bc2bccb20d66c7ac6017713c29a2407538cd838be75f"},
    {ggml::Type::kQ5_1, false, "f72bbcbbccb20d66b7ab5016613b28a1406428cd828ad75f"},
    {ggml::Type::kQ8_0, false,
     "cc1fbbde01368ade480f8125beec1858ba7e5fd33008b5988fd09f3616e0c24271ab"},
    {ggml::Type::kQ2_K, false,
     "ffccbcdcdeeeebffffeceeccdccdcb5ae5fd868af46d1e5aec3e61555ac3b5a3abed6642dca4bc51a412f6f1"
     "1d5693087a5979156442ebd22eca89867bd56aa61618788e1fac545fa1b9d1a2c32945388f292f2c"},
    {ggml::Type::kQ3_K, false,
     "fab8ffbfca907515f83122b7f50ffadbfecf0c51db0d6f592d006c2d7784e88366933431c1a306d87151ae84"
     "99be126f15dd0ed0fe4b7f326fa2ffb54e8e345778b4b0f09d411ba6cc96c7117b7b560da54dc8f963a9c4c7"
     "ae9f0e7f3a7b368d117778a88b8367700cc3c3f027a1"},
    {ggml::Type::kQ4_K, false,
     "8a181124fefbfafffcfcfdfebccafc2453f5678a70f5dbb8e0f92356a82c732e9cd45a07e331c104620a5825"
     "c36b2d929cbe6070cf4c07569a1f4b3736b27e9b8ae97841e6a99e659c24dece06368500a8a78676600abe1b"
     "d7ac9579be34ab586892b0c8fcc140de13a404163bb443a14d363c062951e9b517b290824ec6597825579ea1"
     "54bc9797cbcdf7caf349823f"},
    {ggml::Type::kQ5_K, false,
     "22141724fefefffffdfcfdffccdfff287c2e610b4c16f3933eb7a49073897c5d1f6ee5b13aecceb0cce18dcc"
     "92618962a7fbc016e1fbb861e0f448bd525af75f2bbaa501e673a20ac416a24c98c84d35598de001bf990ebc"
     "553e977f8d840c3724f2f191fd714dea3848ecad0d6d2b10525f0efec0066f28b04a3bf46f7959b3c2347092"
     "fb9291af374a192e687a97539b7d5a0d54a2d37a2f7430049d8ca3f05aa02e43a969303f888cfe95e693045f"},
    {ggml::Type::kQ6_K, false,
     "df48f0ed03c832745129101b56766f0f965d333eb54ddf5d2b11bad9c1ce6117ab01c70d52201872a26136e8"
     "0416017556f8f531fdef85d16883c65814ca491764be5dac814c6d4ff0840679ae936205d50821b4f6d5121e"
     "0e84425c40958f06adfb22ef49901dd598da67dfbdbf8cf60888af5c702c8d89ebe61fcd35a0dd0588c17ab6"
     "c841236690025d2966ff889fa8ee6541dfa3bf52b711f5f21f14900bba99f9d5e4822b12de0b4946bb11ab66"
     "eaa44072a34068631c052d1d3f9578c4846e7b857c86808384868677847a6c7c1c8c"},
    {ggml::Type::kIQ4_NL, false, "1b20e345c89c31151d4920cba3563adef32f"},
    {ggml::Type::kIQ4_XS, false,
     "400cc33f2ff0fe4fe345b89c31151d4920cba3563adef32f6b10baf709d021f4a0f0beeb24aee85e53617fff"
     "907319ba35c114189a9eb1f3abfd7748fec4b075ab11f4e3032d980aa9270797e01c0ffc384e456bdf443d1a"
     "5cabd8d8f6d04ce11ebb1a172cc34bb54e86fe164ad18a74d7e170b12ea62af8dbbc6d4fad3b50532e230527"
     "0bb27ad8"},
    {ggml::Type::kMXFP4, false, "7c7edc5015effcf6d2ff543ecae3677ef7"},
    {ggml::Type::kTQ1_0, false,
     "34a6767636a6f08047a40e7d7eb335b9d59f7f5a4b0d506533608d709ad2b81d8980a9989b418148b87b5a5a"
     "6a2c7d8336888888fa3b"},
    {ggml::Type::kTQ2_0, false,
     "64694545a4691a55582950151582645256995541985068516411a5a119165204655565151441969119864545"
     "66915655155468495a68545a90a5919182554464fa3b"},
    {ggml::Type::kQ4_0, true, "1230e456b88b41261c5920ba946749cdf43f"},
    {ggml::Type::kQ4_1, true, "5e3092bbc345a77a30151b4820a9835648bcd32e"},
    {ggml::Type::kQ5_0, true, "cb2bccb20d66c7ac6017713c29a2407538cd838be75f"},
    {ggml::Type::kQ5_1, true, "092cc2bbccb20d66b7ab5006613b28a1406427cd827ad75f"},
    {ggml::Type::kQ2_K, true,
     "fecdbdddceeeecffefedebdddddd9a4ae5fd868af46d1f5aec3e61555ac3b5a3abeda642dca4bc51b412f6f1"
     "1d5693087e1d39192842efd22ecf8d8a7fd56ea616287c4e1fbc646fb1b9d1a1c32d453814290c2c"},
    {ggml::Type::kQ3_K, true,
     "fab8ffbfca907515f83122b6f50ffadbfecf0c51db0d6f592d006c2d7380e88366933431d1a306d87151ae87"
     "99ae126f15dd0fc0fe5b7f316fa2ffb57ebe35467878b0f09d415ba2cc96c7117bbb5a0da54dc8f967a9c4cb"
     "ae9f0e7f2a7b368d238ab7d9ad88a7710cc3c3f047a1"},
    {ggml::Type::kQ4_K, true,
     "82180824fefbfafffcfcfcbec8bafdf453f5678a70f5dbb8e0f92356a82c732e9cd45a07e331c104510a5825"
     "c36b2d929cbe6070cf4c07569a1f4b3736b27e9b8ae97840e6a89e659c24dece06368500a9a78777500baf1c"
     "d8ad957aaf34ac595992b0c9fdc140df13a504172cb543a14c362c062941e9b507b290724db6597724478e91"
     "44ac9797bbbdf7cae349722f"},
    {ggml::Type::kQ5_K, true,
     "19141624fdfffffefdfcfdfdcddfff397c2e610b4c16f3933eb7a49073897c5d1f6ee5b13aecceb0cce18dcc"
     "92618962a7fcc017e1fcb962e0e548bd535bf75f2cbaa601e773a20ac417a33c98c84e35598de001bf990ebc"
     "552e977f7d840c3724f2f191fd714eea3838ecad0d6d2b00625f0efec0066f27b04a3bf46f7959b2c2348092"
     "fb9291af374a192e687a97539b7d6a0d54a2d37a2f7430049d8ca3f05aa02e43a969303f888cfe95e693046f"},
    {ggml::Type::kQ6_K, true,
     "df48f0ed03c832745129101b56766f0f965d332eb54def5d3b11cae9b1be6107ab01c70d52201872a26136e8"
     "0416017556f8f531fdee86d16883c65814ca491764be5dac804c6e40f0850679af936306d50921b4f6d5121e"
     "0e84435c40958f06adfb22ef49901dd598da67dfbdbf8cf60888af5c702c8d89ebe61fcd35a0dd0588c17ab6"
     "c841236690025d2966ff889fa8ee6541dfa3bf52b711f5f21f14900bba99f9d5e4822b13de0b4946bb11ab66"
     "eaa44072a34068631c052d1d3f9578c4846e7c857c89808388858678837a6d7c188c"},
    {ggml::Type::kIQ4_NL, true, "bc1fe345c89c20151d4910cba3563adef32f"},
    {ggml::Type::kIQ4_XS, true,
     "420cc33f2de0fd4fe345c89c20151d4910cba3563adef32f6b10baf709d021f4a0f0beeb24aee86e53617fff"
     "907319ba35c114189a9eb1f3abfd7748fec4b075ab11f4e3032d980aa9170797e01c0ffd384e456bdf443d1a"
     "5cabd8d8f6d04ce11ebb1a172cc34bb54e86fe164ad18a74d7e170b12ea62af8dbbc6d4fad3b50532e230527"
     "0bb27ad8"},
};

}  // namespace calque
