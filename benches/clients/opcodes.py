"""capstone: disassembles with details, which are structures of unions and arrays, copied and read field by field."""

import capstone

SIZE = 30
CEILING = {"3.11": (1.21, 1.56), "3.13": (1.27, 2.01)}

CODE = bytes.fromhex("554889e54883ec18488b55f08b4a0401c8f7d92945f8f30f10450cf30f59c2e804000000740348034cc8100fb7d1c9c3") * 40


def setup():
    reader = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    reader.detail = True
    return reader


def work(size, reader):
    bytes_read, letters, names, places = 0, 0, 0, 0
    for _ in range(size):
        for instruction in reader.disasm(CODE, 0x4000):
            bytes_read += instruction.size
            letters += len(instruction.mnemonic) + len(instruction.op_str)
            for operand in instruction.operands:
                if operand.type == capstone.CS_OP_REG:
                    names += len(instruction.reg_name(operand.reg))
                elif operand.type == capstone.CS_OP_MEM:
                    places += operand.mem.disp & 0xFF
                    names += len(instruction.reg_name(operand.mem.base)) if operand.mem.base else 0
            names += sum(len(instruction.group_name(group)) for group in instruction.groups)
    return bytes_read, letters, names, places
