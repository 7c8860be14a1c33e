"""pypdfium2: writes a page of text and reads each character, its box and its size. Objects have an `_as_parameter_`."""

import ctypes

import pypdfium2
import pypdfium2.raw as pdf

SIZE = 40
CEILING = {"3.11": (1.89, 2.00), "3.13": (2.25, 2.57)}


def setup():
    document = pypdfium2.PdfDocument.new()
    page = document.new_page(600, 850)
    font = pdf.FPDFText_LoadStandardFont(document.raw, b"Courier")
    for row in range(45):
        line = pdf.FPDFPageObj_CreateTextObj(document.raw, font, 11.0)
        text = f"{row:02}: {'abcdefghij klmnopqrst uvwxyz ' * 2}"
        encoded = ctypes.c_char_p(text.encode("utf-16-le") + b"\0\0")
        pdf.FPDFText_SetText(line, ctypes.cast(encoded, ctypes.POINTER(pdf.FPDF_WCHAR)))
        pdf.FPDFPageObj_Transform(line, 1, 0, 0, 1, 30, 810 - 17 * row)
        pdf.FPDFPage_InsertObject(page.raw, line)
    page.gen_content()
    return document, page


def work(size, state):
    _, page = state
    codes, places, letters, bounds = 0, 0.0, 0, 0
    for _ in range(size):
        text = page.get_textpage()
        for index in range(text.count_chars()):
            left, _, _, top = text.get_charbox(index)
            codes += pdf.FPDFText_GetUnicode(text.raw, index)
            places += left + top + pdf.FPDFText_GetFontSize(text.raw, index)
        for index in range(text.count_rects()):
            letters += len(text.get_text_bounded(*text.get_rect(index)))
        bounds += sum(int(sum(part.get_bounds())) for part in page.get_objects())
        text.close()
    return codes, round(places, 2), letters, bounds
