"""First and last names for invented people."""

from __future__ import annotations

FIRST = """Ada Adrian Agnes Alma Amara Anders Anton Aria Basil Beatriz Bruno Callum Camille Cecilia Chidi Clara
Dalia Damian Dario Edith Elena Elias Emeka Enzo Esther Farah Felix Fiona Gabriel Greta Hana Hugo Ines Irene Ivan Jana
Jasper Joaquin Julia Kaito Karim Katya Keiko Lars Laura Leila Leonie Lorenzo Lucia Magnus Maia Marek Mei Mila Nadia
Naomi Niko Nora Odette Olga Omar Oscar Paula Petra Priya Rafael Renata Rosa Ruben Sanjay Selma Silas Sofia Tariq Tess
Theo Tomas Uma Vera Viktor Wanda Xavier Yara Yusuf Zelda""".split()
LAST = """Abara Achterberg Almeida Andrade Ashworth Baranov Bellweather Bergstrom Blackwood Brandt Calloway
Castellan Chowdhury Corrigan Dahl Delacroix Demir Drummond Eklund Escobar Fairbairn Farrow Ferrante Fontaine Galloway
Grimaldi Haldane Hashimoto Hawthorne Holloway Ibarra Ilves Jankowski Jorgensen Kaplan Kessler Kovac Kurosaki Lachance
Lindqvist Lombardi Macready Mahler Marchetti Mbeki Mendoza Merriweather Mori Nakagawa Navarro Nightingale Nilsson
Obuya Okafor Oyelaran Pemberton Petrov Quintero Radcliff Ramanujan Reyes Rosenthal Rutherford Salazar Sandoval
Sinclair Sorensen Stavros Takeda Thorne Ulrich Valdez Vandermeer Villareal Wakefield Whitlock Winslow Yamashiro
Zamora Zielinski""".split()
