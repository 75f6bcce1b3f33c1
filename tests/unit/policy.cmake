# The policy: its table, its detectors, its choices.  tests/sim has what needs a world around it.
foreach(part IN ITEMS table faults stall silence choose kept)
	holdfast_unit_test(policy_${part} SOURCES policy_${part}.c policy_bed.c LIBS policy_core)
endforeach()

# With a policy whose rules can be taken away, which no program has.
set(RHYTHM_POLICY advance attempt budget choose decide greet incident ladder policy ranks silence stall)
list(TRANSFORM RHYTHM_POLICY REPLACE "(.+)" "${PROJECT_SOURCE_DIR}/supervisor/policy/\\1.c")
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash) # its header only
holdfast_unit_test(policy_rhythm SOURCES policy_rhythm.c policy_bed.c ${RHYTHM_POLICY})
set_tests_properties(unit.policy_rhythm PROPERTIES TIMEOUT 240)
target_compile_definitions(test_policy_rhythm PRIVATE POLICY_RULES_REMOVABLE
	RHYTHMS="${PROJECT_SOURCE_DIR}/tests/sim/rhythms")
target_include_directories(test_policy_rhythm PRIVATE ${XXHASH_INCLUDE_DIRS})
