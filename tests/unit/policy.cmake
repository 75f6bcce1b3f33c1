# The policy: its table, its detectors, its choices.  tests/sim has what needs a world around it.
foreach(part IN ITEMS table faults stall choose kept)
	holdfast_unit_test(policy_${part} SOURCES policy_${part}.c policy_bed.c LIBS policy_core)
endforeach()
