// Instruction sets: what is detected, and caps.
#include "core/isa.hpp"

#include <cstdlib>

#include "ops/op_testing.hpp"

namespace mambasdk {
namespace {

TEST(Isa, IsTheOneToTest) {
  const char* expected = std::getenv("MAMBASDK_TEST_ISA");
  if (expected == nullptr) GTEST_SKIP() << "MAMBASDK_TEST_ISA is not set";
  EXPECT_STREQ(isa_name(detected_isa()), expected);
}

TEST(Isa, CapsLowerWhatIsActive) {
  const testing::Settings restore;
  for (const Isa isa : testing::instruction_sets()) {
    set_max_isa(isa);
    EXPECT_EQ(active_isa(), isa) << isa_name(isa);
  }
  set_max_isa(Isa::avx512_amx);
  EXPECT_EQ(active_isa(), detected_isa());
}

}  // namespace
}  // namespace mambasdk
